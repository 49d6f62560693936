package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"
)

// authority makes certificates for whichever host a sink believes to speak to. Its key lives as long as it does and is written
// nowhere, so nobody but this process can use what trusts it.
type authority struct {
	key   *ecdsa.PrivateKey
	root  *x509.Certificate
	begun time.Time

	mu    sync.Mutex // guards hosts
	hosts map[string]*tls.Certificate
}

// validFor is how long the certificates hold; longer than anybody keeps a terminal open.
const validFor = 366 * 24 * time.Hour

func newAuthority(now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a := &authority{key: key, begun: now.Add(-time.Hour), hosts: map[string]*tls.Certificate{}}
	sketch := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "millrace dev"},
		NotBefore: a.begun, NotAfter: a.begun.Add(validFor),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, sketch, sketch, key.Public(), key)
	if err != nil {
		return nil, err
	}
	a.root, err = x509.ParseCertificate(der)
	return a, err
}

// pool is what a sink must trust.
func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.root)
	return p
}

// config is for a listener whose connections are guests.
func (a *authority) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		g, ok := guestOf(hello.Conn)
		if !ok {
			return nil, errors.New("it is no connection of a receiver")
		}
		host, _, err := net.SplitHostPort(g.caller().address)
		if err != nil {
			return nil, err
		}
		return a.certificate(host)
	}}
}

// certificate is the one for a host, which is a name or an IP address.
func (a *authority) certificate(host string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.hosts[host]; c != nil {
		return c, nil
	}
	sketch := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(a.hosts) + 2)), Subject: pkix.Name{CommonName: "millrace dev"},
		NotBefore: a.begun, NotAfter: a.begun.Add(validFor),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if ip := net.ParseIP(host); ip != nil {
		sketch.IPAddresses = []net.IP{ip}
	} else {
		sketch.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, sketch, a.root, a.key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("a certificate for %s: %w", host, err)
	}
	c := &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: a.key}
	a.hosts[host] = c
	return c, nil
}
