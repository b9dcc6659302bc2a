package main

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/rs/cors"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// browsers decides which web pages may call, and under which names.
type browsers struct {
	hosts   []string
	origins []string
	crosses *http.CrossOriginProtection
}

// newBrowsers returns an error if an origin is one that no browser would send.
func newBrowsers(hosts, origins []string) (*browsers, error) {
	b := &browsers{hosts, origins, http.NewCrossOriginProtection()}
	for _, origin := range origins {
		if err := b.crosses.AddTrustedOrigin(origin); err != nil {
			return nil, err
		}
		isDefault := strings.HasPrefix(origin, "https:") && strings.HasSuffix(origin, ":443") ||
			strings.HasPrefix(origin, "http:") && strings.HasSuffix(origin, ":80")
		if isDefault || origin != strings.ToLower(origin) {
			return nil, fmt.Errorf("invalid origin %q: browsers send it in lower case, without a default port", origin)
		}
	}
	b.crosses.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, r, http.StatusForbidden, status.New(codes.PermissionDenied, "pages of this origin may not call; see --origin"), "")
	}))
	return b, nil
}

// handler refuses what a page of another origin must not be able to do.
func (b *browsers) handler(next http.Handler) http.Handler {
	return b.knownHosts(b.cors().Handler(next))
}

// knownHosts refuses other names than ours: a page whose own name was made to lead
// here (DNS rebinding) counts as ours to the browser. An address is not a name.
func (b *browsers) knownHosts(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !b.isOurs(r.Host) {
			writeProblem(w, r, http.StatusMisdirectedRequest, status.New(codes.InvalidArgument, "the gateway does not know this Host; see --host"), "")
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (b *browsers) isOurs(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	_, err := netip.ParseAddr(host)
	return err == nil || host == "localhost" || host == "" || slices.Contains(b.hosts, host)
}

// cors lets pages of some origins read our answers.
func (b *browsers) cors() *cors.Cors {
	return cors.New(cors.Options{
		AllowOriginFunc: func(origin string) bool { return slices.Contains(b.origins, origin) },
		AllowedMethods:  []string{"GET", "POST", "PATCH", "DELETE"},
		AllowedHeaders: []string{"Authorization", "Content-Type", "Grpc-Timeout", "If-Match", "If-None-Match",
			"Last-Event-ID", requestID, "Traceparent", "Tracestate"},
		ExposedHeaders: []string{"ETag", "Location", "Retry-After", requestID, "WWW-Authenticate"},
		MaxAge:         600,
	})
}
