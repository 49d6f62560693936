package syslog

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// authority makes certificates below itself.
type authority struct {
	*testing.T
	folder string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) *authority {
	a := &authority{T: t, folder: t.TempDir()}
	a.cert, a.key = a.make(name, nil)
	return a
}

// make makes a certificate with its key in name.crt and name.key.
func (a *authority) make(name string, parent *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.check(err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(name))), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: parent == nil, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	signer := a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	a.check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	a.check(err)
	a.check(os.WriteFile(a.path(name+".crt"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	a.check(os.WriteFile(a.path(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	made, err := x509.ParseCertificate(der)
	a.check(err)
	return made, key
}

func (a *authority) check(err error) {
	a.Helper()
	if err != nil {
		a.Fatal(err)
	}
}

func (a *authority) path(name string) string { return filepath.Join(a.folder, name) }

// client is the configuration of a client that trusts the authority; with a name it has a certificate.
func (a *authority) client(name string) *tls.Config {
	a.Helper()
	c := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	c.RootCAs.AddCert(a.cert)
	if name != "" {
		pair, err := tls.LoadX509KeyPair(a.path(name+".crt"), a.path(name+".key"))
		a.check(err)
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	return c
}

func (s *server) dialTLS(t *testing.T, config *tls.Config) (net.Conn, error) {
	d := tls.Dialer{Config: config}
	c, err := d.DialContext(t.Context(), "tcp", s.at["tls"])
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

func TestTLS(t *testing.T) {
	a := newAuthority(t, "authority")
	a.make("server", a.cert)
	s := serve(t, func(c *Config) {
		c.Protocol, c.TLS = []string{"tls"}, TLS{a.path("server.crt"), a.path("server.key"), ""}
	})
	for _, text := range []string{"78 " + modern + "77 " + modern[:77], modern + "\n"} {
		c, err := s.dialTLS(t, a.client(""))
		if err != nil {
			t.Fatal(err)
		}
		write(t, c, text)
	}
	got := texts(s.wait(t, 3))
	if n := len(slices.DeleteFunc(slices.Clone(got), func(m string) bool { return m != modernData })); n != 2 {
		t.Errorf("%d of %q", n, got)
	}
	plain, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.at["tls"])
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	write(t, plain, modern+"\n")
	_ = plain.(*net.TCPConn).CloseWrite()
	s.counted(t, func(n Counts) bool { return n.Refused[ReasonHandshake] == 1 })
}

func TestClientCertificates(t *testing.T) {
	a, other := newAuthority(t, "authority"), newAuthority(t, "other")
	a.make("server", a.cert)
	a.make("client", a.cert)
	other.make("client", other.cert)
	s := serve(t, func(c *Config) {
		c.Raw, c.Protocol, c.TLS = true, []string{"tls"}, TLS{a.path("server.crt"), a.path("server.key"), a.path("authority.crt")}
	})
	stranger := a.client("")
	stranger.GetClientCertificate = other.client("client").GetClientCertificate
	for _, refused := range []*tls.Config{a.client(""), stranger} {
		c, err := s.dialTLS(t, refused)
		if err == nil { // with TLS 1.3 the client hears of it at its next read
			_, _ = c.Write([]byte("<1>secret\n"))
			closed(t, c)
		}
	}
	c, err := s.dialTLS(t, a.client("client"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, c, "<1>known\n")
	if got := texts(s.wait(t, 1)); !slices.Equal(got, []string{"<1>known"}) || s.Counts().Refused[ReasonHandshake] != 2 {
		t.Errorf("%q, %+v", got, s.Counts())
	}
}

func TestFilesOfTLS(t *testing.T) {
	a := newAuthority(t, "authority")
	for _, c := range []struct {
		files TLS
		want  string
	}{
		{TLS{a.path("none"), a.path("authority.key"), ""}, "tls.cert and tls.key"},
		{TLS{a.path("authority.crt"), a.path("authority.key"), a.path("none")}, "tls.client_ca"},
		{TLS{a.path("authority.crt"), a.path("authority.key"), a.path("authority.key")}, "tls.client_ca: there is no certificate"},
	} {
		config := Defaults()
		config.Listen, config.Protocol, config.TLS = "127.0.0.1:0", []string{"udp", "tls"}, c.files
		s, err := New(config)
		a.check(err)
		if err := s.Run(t.Context(), newInbox().emit); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}
