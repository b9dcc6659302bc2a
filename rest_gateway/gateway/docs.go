package main

import (
	_ "embed"
	"net/http"

	"github.com/swaggest/swgui/v5emb"
)

//go:embed openapi.swagger.json
var openapi []byte

// addDocs serves the OpenAPI document, and Swagger UI out of this program itself.
func addDocs(pages *http.ServeMux) {
	pages.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(openapi)
	})
	ui := v5emb.New("Contacts", "/openapi.json", "/docs/")
	pages.HandleFunc("GET /docs/", func(w http.ResponseWriter, r *http.Request) {
		// The browser itself sees to it that nothing comes from elsewhere.
		w.Header().Set("Content-Security-Policy",
			"default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:")
		ui.ServeHTTP(w, r)
	})
	pages.Handle("GET /{$}", http.RedirectHandler("/docs/", http.StatusFound))
}
