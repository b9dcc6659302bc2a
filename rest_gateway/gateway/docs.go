package main

import (
	_ "embed"
	"net/http"

	"github.com/swaggest/swgui/v5emb"
)

//go:embed openapi.json
var openapi []byte

//go:embed docs.html
var docsPage []byte

//go:embed docs.js
var docsScript []byte

// docsPolicy lets the page load what this program serves, and nothing else. The
// page holds a token, so it runs no script that somebody has put into it, sends no
// form elsewhere, and is not shown inside another page, which could steal clicks.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; " +
	"img-src 'self' data:; connect-src 'self'; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// addDocs serves the OpenAPI document, and Swagger UI out of this program itself.
func addDocs(pages *http.ServeMux) {
	pages.Handle("GET /openapi.json", file("application/json", openapi))
	pages.Handle("GET /docs/{$}", file("text/html; charset=utf-8", docsPage))
	pages.Handle("GET /docs/docs.js", file("text/javascript; charset=utf-8", docsScript))
	// The rest of Swagger UI. Its own page is not served: it has scripts inside.
	pages.Handle("GET /docs/", withPolicy(v5emb.New("", "", "/docs/")))
	pages.Handle("GET /{$}", http.RedirectHandler("/docs/", http.StatusFound))
}

// file serves bytes that are part of this program.
func file(contentType string, content []byte) http.Handler {
	return withPolicy(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(content)
	}))
}

func withPolicy(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", docsPolicy)
		w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
		w.Header().Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}
