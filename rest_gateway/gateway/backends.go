package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

const (
	// Chapter 4's service allows a ping every 10 s.
	keepaliveTime = 20 * time.Second
	// The service allows 100 streams on a connection. grpc-go lets further ones wait,
	// which a caller sees as a gateway that does not answer.
	perConnection = 80
)

// backend holds the connections to a service. Calls, transfers (imports and
// exports) and watches have connections of their own, so that one kind never waits
// for another.
type backend struct {
	calls     *grpc.ClientConn
	transfers *lane
	watches   *lane
}

// newBackend connects when the first call needs it.
func newBackend(stopping context.Context, target string, files backendFiles, s *settings) (*backend, error) {
	options, err := files.options()
	if err != nil {
		return nil, err
	}
	calls, err := dial(stopping, target, options, s.timeout)
	if err != nil {
		return nil, err
	}
	lanes := make([]*lane, 2)
	for i, places := range []int{perConnection, s.maxWatches} {
		if lanes[i], err = newLane(places, func() (*grpc.ClientConn, error) {
			return dial(stopping, target, options, s.timeout)
		}); err != nil {
			return nil, err
		}
	}
	return &backend{calls: calls, transfers: lanes[0], watches: lanes[1]}, nil
}

// Invoke makes a unary call.
func (b *backend) Invoke(ctx context.Context, method string, request, reply any, opts ...grpc.CallOption) error {
	return b.calls.Invoke(ctx, method, request, reply, opts...)
}

// NewStream opens a stream, unless all places of its kind are taken. The place is
// free again when ctx ends, which is when the REST client has been answered.
func (b *backend) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	lane := b.transfers
	if isWatch[method] {
		lane = b.watches
	}
	place := lane.take()
	if place < 0 {
		return nil, errOverloaded.Err()
	}
	context.AfterFunc(ctx, func() { lane.release(place) })
	return lane.connections[place].NewStream(ctx, desc, method, opts...)
}

// errOverloaded refuses what there is no place for. It has the details of chapter
// 4's own refusals.
var errOverloaded = withDetails(codes.Unavailable, "the gateway is overloaded; try again later")

func withDetails(code codes.Code, text string) *status.Status {
	detailed, err := status.New(code, text).WithDetails(
		&errdetails.ErrorInfo{Reason: "OVERLOADED", Domain: "gateway.example.com"},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)},
	)
	if err != nil {
		panic(err) // Both are messages that can be packed.
	}
	return detailed
}

// lane is a group of connections with a number of places for streams.
type lane struct {
	connections []*grpc.ClientConn
	mutex       sync.Mutex
	free        []int // Places, by connection.
}

func newLane(places int, dial func() (*grpc.ClientConn, error)) (*lane, error) {
	l := &lane{}
	for ; places > 0; places -= perConnection {
		connection, err := dial()
		if err != nil {
			return nil, err
		}
		l.connections = append(l.connections, connection)
		l.free = append(l.free, min(places, perConnection))
	}
	return l, nil
}

// take returns the index of the first connection with a free place, or -1.
func (l *lane) take() int {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	for i, free := range l.free {
		if free > 0 {
			l.free[i]--
			return i
		}
	}
	return -1
}

func (l *lane) release(place int) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.free[place]++
}

// dial connects to a service when the first call needs it.
func dial(stopping context.Context, target string, options []grpc.DialOption, timeout time.Duration) (*grpc.ClientConn, error) {
	return grpc.NewClient(target, append(options[:len(options):len(options)],
		// After an outage, however long, we are back in three seconds; by default it may take two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: time.Second, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithChainUnaryInterceptor(withTimeout(timeout), asCalls),
		grpc.WithChainStreamInterceptor(untilStopping(stopping), withFirstMessage, withEarlyAnswer),
	)...)
}

// dialHealth returns the connection for health checks. They have one of their own, so
// that they never wait for calls.
func dialHealth(stopping context.Context, s *settings) (*grpc.ClientConn, error) {
	options, err := s.backends.options()
	if err != nil {
		return nil, err
	}
	return dial(stopping, s.contacts, options, min(s.timeout, healthTime))
}

// backendFiles configures how a service is called: in plaintext, or by TLS.
type backendFiles struct {
	plaintext            bool
	ca, certificate, key string
}

// options returns the options of a connection to a service.
func (f backendFiles) options() ([]grpc.DialOption, error) {
	// A dead connection is noticed, also when nothing is being called.
	alive := grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, PermitWithoutStream: true})
	if f.plaintext {
		return []grpc.DialOption{alive, grpc.WithTransportCredentials(insecure.NewCredentials())}, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.ca != "" {
		pem, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: holds no certificate", f.ca)
		}
	}
	if f.certificate != "" {
		load := loader(f.certificate, f.key)
		if _, err := load(); err != nil {
			return nil, err
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return load() }
	}
	return []grpc.DialOption{alive, grpc.WithTransportCredentials(credentials.NewTLS(config))}, nil
}

// serverTLS configures TLS towards REST clients: HTTP/2 for those that support it,
// HTTP/1.1 for others.
func serverTLS(certificate, key string) (*tls.Config, error) {
	load := loader(certificate, key)
	if _, err := load(); err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return load() },
	}, nil
}

// loader reads a certificate anew for each connection, so that it can be replaced.
func loader(certificate, key string) func() (*tls.Certificate, error) {
	return func() (*tls.Certificate, error) {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", certificate, key, err)
		}
		return &pair, nil
	}
}
