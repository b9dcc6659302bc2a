package main

import (
	"context"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	productionv1 "contacts.example.com/gateway/gen/production/v1"
)

// conditions are a request's preconditions (RFC 9110, 13.1).
type conditions struct {
	ifMatch     string // An etag, * or "".
	ifNoneMatch []string
}

type conditionsKey struct{}

// conditionsOf returns the preconditions of the request that ctx belongs to.
func conditionsOf(ctx context.Context) conditions {
	found, _ := ctx.Value(conditionsKey{}).(conditions)
	return found
}

// allow tells whether a contact is one that If-Match allows.
func (c conditions) allow(contact *productionv1.Contact) bool {
	return c.ifMatch == "" || c.ifMatch == "*" || c.ifMatch == contact.GetEtag()
}

// errChanged refuses what If-Match does not allow, as the service does.
func errChanged(contact *productionv1.Contact) error {
	return status.Errorf(codes.Aborted, "%s has changed; read it again", contact.GetName())
}

// hasEtag lists the methods whose answers have an ETag, and so can have conditions.
var hasEtag = map[string]bool{
	productionv1.ContactService_GetContact_FullMethodName:    true,
	productionv1.ContactService_UpdateContact_FullMethodName: true,
	productionv1.ContactService_DeleteContact_FullMethodName: true,
}

// conditional reads the preconditions. One that it cannot read or cannot check fails
// the request: a client that sends If-Match relies on it.
func conditional(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		refuse := func(code int, text string) {
			writeProblem(w, r, code, status.New(codes.InvalidArgument, text), "")
		}
		match, isMatchValid := etags(r.Header.Values("If-Match"))
		noneMatch, isNoneMatchValid := etags(r.Header.Values("If-None-Match"))
		switch {
		case routeOf(r) == nil: // 404 or 405, whatever the conditions (RFC 9110, 13.2.1).
			next.ServeHTTP(w, r)
		case !isMatchValid:
			refuse(http.StatusBadRequest, `If-Match must be an ETag in double quotes, or *`)
		case !isNoneMatchValid:
			refuse(http.StatusBadRequest, `If-None-Match must have ETags in double quotes, or *`)
		case len(match) > 1:
			refuse(http.StatusBadRequest, "If-Match may have one ETag")
		case len(noneMatch) > 0 && r.Method != http.MethodGet && r.Method != http.MethodHead:
			refuse(http.StatusBadRequest, "If-None-Match is available for GET and HEAD only")
		case len(match) == 1 && match[0] != "*" && !hasEtag[routeOf(r).fullMethod()]:
			refuse(http.StatusPreconditionFailed, "there is no ETag at this path")
		default:
			read := conditions{ifNoneMatch: noneMatch}
			if len(match) == 1 {
				read.ifMatch = match[0]
			}
			next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), conditionsKey{}, read)))
		}
	})
}

// entityTag is an ETag in ASCII, weak or strong (RFC 9110, 8.8.3).
var entityTag = regexp.MustCompile(`^(W/)?"[!#-+\--~]*"$`)

// etags returns the ETags in the values of a header, none if it is missing; and
// whether all of them can be read. Ours have no comma, and one that has is refused.
func etags(values []string) ([]string, bool) {
	if len(values) == 0 {
		return nil, true
	}
	list := strings.Split(strings.Join(values, ","), ",")
	for i, value := range list {
		list[i] = strings.Trim(value, " \t")
		if !entityTag.MatchString(list[i]) && (list[i] != "*" || len(list) > 1) {
			return nil, false
		}
	}
	return list, true
}

// matches compares an etag with those of If-None-Match, weakly (RFC 9110, 8.8.3.2).
func matches(list []string, etag string) bool {
	return slices.ContainsFunc(list, func(each string) bool {
		return each == "*" || strings.TrimPrefix(each, "W/") == etag
	})
}
