package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// backendFiles say how to call a service: in plaintext, or by TLS.
type backendFiles struct {
	plaintext            bool
	ca, certificate, key string
}

// options are those of a connection to a service.
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

// serverTLS is what REST clients meet: HTTP/2 for those who can, HTTP/1.1 for others.
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
