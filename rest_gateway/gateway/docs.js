// A file of its own, so that the Content-Security-Policy can forbid scripts
// inside the page. The token is kept in memory only, and a reload forgets it.
SwaggerUIBundle({
  dom_id: "#page",
  url: "/openapi.json",
  deepLinking: true,
  defaultModelsExpandDepth: -1,
  persistAuthorization: false,
  // By default a validator on another host is asked.
  validatorUrl: null,
});
