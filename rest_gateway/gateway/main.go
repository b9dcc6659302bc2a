// Command rest-gateway lets REST clients and browsers call ContactService and
// GreeterService. `make gateway` builds it; then
//
//	rest-gateway --address 127.0.0.1:8080 --contacts localhost:50051 --plaintext
//
// answers at http://localhost:8080/v1/contacts, and has documentation at /docs/.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/klauspost/compress/gzhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"

	productionv1 "contacts.example.com/gateway/gen/production/v1"
	echov1 "contacts.example.com/gateway/gen/protos/echo/v1"
	gatewayv1 "contacts.example.com/gateway/gen/rest_gateway/v1"
)

const (
	headerTime = 10 * time.Second
	idleTime   = 2 * time.Minute
	healthTime = 5 * time.Second
	// Bytes of the request line and headers: tokens are some 2 kB. The service accepts
	// 16 KiB of metadata.
	maxHeader = 8 << 10
	// From here on Go collects garbage more often. GOMEMLIMIT may set another limit.
	memoryLimit = 256 << 20
)

type settings struct {
	address         string
	contacts        string
	greeter         string
	backends        backendFiles
	tlsCertificate  string
	tlsKey          string
	hosts           list
	origins         list
	maxWatches      int
	echo            bool
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
	flags.StringVar(&s.greeter, "greeter", "localhost:50052", "`HOST:PORT` of GreeterService")
	flags.BoolVar(&s.backends.plaintext, "plaintext", false, "call ContactService without TLS, as GreeterService always")
	flags.StringVar(&s.backends.ca, "ca", "", "`FILE` with the authority that signed ContactService's certificate")
	flags.StringVar(&s.backends.certificate, "certificate", "", "`FILE` with the certificate to show to ContactService")
	flags.StringVar(&s.backends.key, "key", "", "`FILE` with its key")
	flags.StringVar(&s.tlsCertificate, "tls-certificate", "", "`FILE` with the certificate to show to REST clients (none: plain HTTP)")
	flags.StringVar(&s.tlsKey, "tls-key", "", "`FILE` with its key")
	flags.Var(&s.hosts, "host", "a `NAME` of this gateway, such as api.example.com; repeat for more. localhost and addresses always are")
	flags.Var(&s.origins, "origin", "a web page's `ORIGIN`, such as https://app.example.com, that may call; repeat for more")
	flags.IntVar(&s.maxWatches, "max-watches", 400, "how many watches may be open at a time")
	flags.BoolVar(&s.echo, "echo", false, "offer EchoService, too, which --greeter has for lessons and tests")
	flags.DurationVar(&s.timeout, "timeout", 30*time.Second, "how long a call may take; Grpc-Timeout may ask for less")
	flags.DurationVar(&s.grace, "grace", 10*time.Second, "how long calls in flight may take after SIGTERM")
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
		return nil, fmt.Errorf("unexpected argument %q; see --help", flags.Arg(0))
	case s.backends.plaintext && s.backends.ca+s.backends.certificate+s.backends.key != "":
		return nil, errors.New("--plaintext uses no certificates")
	case (s.backends.certificate == "") != (s.backends.key == ""):
		return nil, errors.New("--certificate and --key need each other")
	case (s.tlsCertificate == "") != (s.tlsKey == ""):
		return nil, errors.New("--tls-certificate and --tls-key need each other")
	case s.timeout <= 0:
		return nil, errors.New("--timeout must be above zero")
	case s.maxWatches <= 0 || s.maxWatches > 10_000:
		return nil, errors.New("--max-watches must be from 1 to 10000")
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

// serve answers until SIGINT or SIGTERM, then waits for calls in flight. A second
// signal ends the process at once.
func serve(s *settings) error {
	stopping, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	handler, err := newHandler(stopping, s)
	if err != nil {
		return err
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		HTTP2:             &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10},
	}
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

// newHandler returns everything between the socket and the services. Watches end
// with stopping.
func newHandler(stopping context.Context, s *settings) (http.Handler, error) {
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	// The library's lines quote requests; we log each request ourselves.
	grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	browsers, err := newBrowsers(s.hosts, s.origins)
	if err != nil {
		return nil, err
	}
	contacts, err := newBackend(stopping, s.contacts, s.backends, s)
	if err != nil {
		return nil, err
	}
	greeter, err := newBackend(stopping, s.greeter, backendFiles{plaintext: true}, s)
	if err != nil {
		return nil, err
	}
	health, err := dialHealth(stopping, s)
	if err != nil {
		return nil, err
	}
	contracts := []protoreflect.FileDescriptor{productionv1.File_production_v1_contacts_proto, gatewayv1.File_rest_gateway_v1_greeter_proto}
	if s.echo {
		contracts = append(contracts, echov1.File_protos_echo_v1_echo_proto)
	}
	pages := http.NewServeMux()
	routes, err := newRoutes(pages, contracts...)
	if err != nil {
		return nil, err
	}
	mux := newMux(s, routes, health)
	if err := register(mux, s, contacts, greeter); err != nil {
		return nil, err
	}
	pages.Handle("/", plain(conditional(resumed(asGet(mux)))))
	addDocs(pages)
	compressed, err := gzhttp.NewWrapper(gzhttp.ContentTypes([]string{"application/json"}))
	if err != nil {
		return nil, err
	}
	inner := newBodies(!s.backends.plaintext).handler(browsers.crosses.Handler(compressed(pages)))
	return logged(browsers.handler(inner), routes), nil
}

// register makes the services callable under their contracts' paths.
func register(mux *runtime.ServeMux, s *settings, contacts, greeter *backend) error {
	background := context.Background()
	err := errors.Join(
		productionv1.RegisterContactServiceHandlerClient(background, mux, productionv1.NewContactServiceClient(contacts)),
		gatewayv1.RegisterGreeterServiceHandlerClient(background, mux, gatewayv1.NewGreeterServiceClient(greeter)),
		gatewayv1.RegisterGroupGreeterServiceHandlerClient(background, mux, gatewayv1.NewGroupGreeterServiceClient(greeter)),
	)
	if s.echo {
		err = errors.Join(err, echov1.RegisterEchoServiceHandlerClient(background, mux, echov1.NewEchoServiceClient(greeter)))
	}
	return err
}

// newMux returns the library's mux, with our options.
func newMux(s *settings, routes *routes, health grpc.ClientConnInterface) *runtime.ServeMux {
	json := codec{&runtime.JSONPb{
		MarshalOptions: protojson.MarshalOptions{
			EmitUnpopulated: s.emitUnpopulated,
			UseProtoNames:   s.protoNames,
		},
		// An unknown field is refused: it is most likely a misspelt one.
		UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
	}}
	return runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, ndjson{json}),
		runtime.WithMarshalerOption("text/event-stream", events{json}),
		runtime.SetQueryParameterParser(&strictQuery{}),
		runtime.WithIncomingHeaderMatcher(incoming),
		runtime.WithOutgoingHeaderMatcher(noHeaders),
		runtime.WithOutgoingTrailerMatcher(noHeaders),
		runtime.WithForwardResponseOption(asREST),
		runtime.WithErrorHandler(writeError),
		runtime.WithStreamErrorHandler(publicStatus),
		runtime.WithRoutingErrorHandler(routes.writeError),
		runtime.WithUnescapingMode(unescaping),
		// A form must not become another call than its method and path say.
		runtime.WithDisableHTTPMethodOverride(),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithHealthzEndpoint(grpc_health_v1.NewHealthClient(health)),
	)
}
