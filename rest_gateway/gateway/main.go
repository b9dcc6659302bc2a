// Command rest-gateway lets REST clients and browsers call ContactService and
// GreeterService. `make gateway` builds it; then
//
//	rest-gateway --address 127.0.0.1:8080 --contacts localhost:50051 --plaintext
//
// answers at http://localhost:8080/v1/contacts, and shows how at /docs/.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/klauspost/compress/gzhttp"
	"github.com/rs/cors"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/encoding/protojson"

	productionv1 "contacts.example.com/gateway/gen/production/v1"
	echov1 "contacts.example.com/gateway/gen/protos/echo/v1"
	gatewayv1 "contacts.example.com/gateway/gen/rest_gateway/v1"
)

const (
	headerTime = 10 * time.Second
	idleTime   = 2 * time.Minute
	// Below the 15 minutes after which chapter 4's service closes idle connections.
	keepaliveTime = 20 * time.Second
)

type settings struct {
	address         string
	contacts        string
	greeter         string
	backends        backendFiles
	tlsCertificate  string
	tlsKey          string
	origins         list
	timeout         time.Duration
	grace           time.Duration
	emitUnpopulated bool
	protoNames      bool
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string         { return strings.Join(*l, ", ") }
func (l *list) Set(value string) error { *l = append(*l, value); return nil }

func parse(args []string) (*settings, error) {
	s := &settings{}
	flags := flag.NewFlagSet("rest-gateway", flag.ContinueOnError)
	flags.StringVar(&s.address, "address", "127.0.0.1:8080", "`HOST:PORT` to listen on; port 0 takes any")
	flags.StringVar(&s.contacts, "contacts", "localhost:50051", "`HOST:PORT` of ContactService")
	flags.StringVar(&s.greeter, "greeter", "localhost:50052", "`HOST:PORT` of GreeterService and EchoService")
	flags.BoolVar(&s.backends.plaintext, "plaintext", false, "call ContactService without TLS, as GreeterService always")
	flags.StringVar(&s.backends.ca, "ca", "", "`FILE` with the authority that signed ContactService's certificate")
	flags.StringVar(&s.backends.certificate, "certificate", "", "`FILE` with the certificate to show to ContactService")
	flags.StringVar(&s.backends.key, "key", "", "`FILE` with its key")
	flags.StringVar(&s.tlsCertificate, "tls-certificate", "", "`FILE` with the certificate to show to REST clients (none: plain HTTP)")
	flags.StringVar(&s.tlsKey, "tls-key", "", "`FILE` with its key")
	flags.Var(&s.origins, "origin", "a web page's `ORIGIN`, such as https://app.example.com, that may call; repeat for more")
	flags.DurationVar(&s.timeout, "timeout", 30*time.Second, "how long a call may take; Grpc-Timeout may ask for less")
	flags.DurationVar(&s.grace, "grace", 10*time.Second, "how long calls in flight may go on after SIGTERM")
	flags.BoolVar(&s.emitUnpopulated, "emit-unpopulated", false, "write fields that have their default value, too")
	flags.BoolVar(&s.protoNames, "proto-names", false, "write field_name as in the contract, not fieldName")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	for _, address := range []string{s.address, s.contacts, s.greeter} {
		if err := checkAddress(address); err != nil {
			return nil, err
		}
	}
	switch {
	case flags.NArg() > 0:
		return nil, fmt.Errorf("what is %q? See --help", flags.Arg(0))
	case s.backends.plaintext && s.backends.ca+s.backends.certificate+s.backends.key != "":
		return nil, errors.New("--plaintext uses no certificates")
	case (s.backends.certificate == "") != (s.backends.key == ""):
		return nil, errors.New("--certificate and --key come together")
	case (s.tlsCertificate == "") != (s.tlsKey == ""):
		return nil, errors.New("--tls-certificate and --tls-key come together")
	case s.timeout <= 0:
		return nil, errors.New("--timeout must be above zero")
	}
	return s, nil
}

// checkAddress refuses what is not HOST:PORT. An IPv6 address is in brackets.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || host == "" {
		return fmt.Errorf("expected HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080, got %q", address)
	}
	return nil
}

func main() {
	s, err := parse(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err == nil {
		err = serve(s)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// serve answers until SIGINT or SIGTERM, then lets calls in flight end. A second
// signal ends the process at once.
func serve(s *settings) error {
	stopping, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	handler, err := newHandler(s, stopping)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: headerTime, IdleTimeout: idleTime}
	if s.tlsCertificate != "" {
		server.TLSConfig, err = serverTLS(s.tlsCertificate, s.tlsKey)
		if err != nil {
			return err
		}
	}
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			failed <- server.ServeTLS(listener, "", "")
		} else {
			failed <- server.Serve(listener)
		}
	}()
	fmt.Printf("listening on %s\n", listener.Addr())
	select {
	case err := <-failed:
		return err
	case <-stopping.Done():
	}
	stop()
	slog.Info("draining", "grace", s.grace.String())
	grace, cancel := context.WithTimeout(context.Background(), s.grace)
	defer cancel()
	if server.Shutdown(grace) != nil {
		return server.Close()
	}
	return nil
}

// newHandler is everything between the socket and the services. Watches end when
// stopping does.
func newHandler(s *settings, stopping context.Context) (http.Handler, error) {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	contacts, err := dial(s.contacts, s.backends, s.timeout, stopping)
	if err != nil {
		return nil, err
	}
	greeter, err := dial(s.greeter, backendFiles{plaintext: true}, s.timeout, stopping)
	if err != nil {
		return nil, err
	}
	routes, err := newRoutes()
	if err != nil {
		return nil, err
	}
	json := codec{&runtime.JSONPb{
		MarshalOptions: protojson.MarshalOptions{
			EmitUnpopulated: s.emitUnpopulated,
			UseProtoNames:   s.protoNames,
		},
		// An unknown field is refused: it is most likely a misspelt one.
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
	}}
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, ndjson{json}),
		runtime.WithMarshalerOption("text/event-stream", events{json}),
		runtime.SetQueryParameterParser(&strictQuery{}),
		runtime.WithIncomingHeaderMatcher(incoming),
		runtime.WithOutgoingHeaderMatcher(nothing),
		runtime.WithOutgoingTrailerMatcher(nothing),
		runtime.WithForwardResponseOption(asREST),
		runtime.WithErrorHandler(writeError),
		runtime.WithStreamErrorHandler(streamError),
		runtime.WithRoutingErrorHandler(routes.writeError),
		// %2F in a path counts as a slash. Some clients encode it, whatever the contract says.
		runtime.WithUnescapingMode(runtime.UnescapingModeAllCharacters),
		// A form must not become another call than its method and path say.
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithHealthzEndpoint(grpc_health_v1.NewHealthClient(contacts)),
	)
	background := context.Background()
	if err := errors.Join(
		productionv1.RegisterContactServiceHandler(background, mux, contacts),
		gatewayv1.RegisterGreeterServiceHandler(background, mux, greeter),
		gatewayv1.RegisterGroupGreeterServiceHandler(background, mux, greeter),
		echov1.RegisterEchoServiceHandler(background, mux, greeter),
	); err != nil {
		return nil, err
	}
	pages := http.NewServeMux()
	pages.Handle("/", limited(mux))
	addDocs(pages)
	compressed, err := gzhttp.NewWrapper(gzhttp.ContentTypes([]string{"application/json"}))
	if err != nil {
		return nil, err
	}
	return logged(allowed(s.origins).Handler(compressed(pages))), nil
}

// dial connects to a service when the first call needs it.
func dial(target string, files backendFiles, timeout time.Duration, stopping context.Context) (*grpc.ClientConn, error) {
	options, err := files.options()
	if err != nil {
		return nil, err
	}
	return grpc.NewClient(target, append(options,
		// After an outage, however long, we are back in three seconds; by default it may take two minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: time.Second, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
		grpc.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}]}`),
		grpc.WithChainUnaryInterceptor(withTimeout(timeout), withIfMatch),
		grpc.WithChainStreamInterceptor(untilStopping(stopping), withFirstMessage),
	)...)
}

// allowed says which web pages may call from a browser (CORS).
func allowed(origins []string) *cors.Cors {
	return cors.New(cors.Options{
		AllowOriginFunc: func(origin string) bool {
			for _, each := range origins {
				if each == origin {
					return true
				}
			}
			return false
		},
		AllowedMethods: []string{"GET", "POST", "PATCH", "DELETE"},
		AllowedHeaders: []string{"Authorization", "Content-Type", "Grpc-Timeout", "If-Match", "If-None-Match", requestID, "Traceparent"},
		ExposedHeaders: []string{"ETag", "Location", "Retry-After", requestID, "WWW-Authenticate"},
		MaxAge:         600,
	})
}
