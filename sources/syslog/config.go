package syslog

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// Config are the settings of a receiver. Begin with Defaults.
type Config struct {
	Listen         string        `yaml:"listen,required" doc:"Host and port, such as :514 for every interface; ports below 1024 need a privilege."`
	Protocol       []string      `yaml:"protocol" doc:"udp, tcp, tls, or a list; tcp and tls cannot share a port."`
	TLS            TLS           `yaml:"tls" doc:"The certificate, for the protocol tls."`
	Raw            bool          `yaml:"raw" doc:"Keep each message as it came, as text/plain, instead of JSON with its members."`
	Timezone       string        `yaml:"timezone" doc:"The zone of times that name none, such as Europe/Berlin; UTC when empty."`
	MaxMessage     int64         `yaml:"max_message,size" doc:"The longest message; of a longer one the beginning is kept. A stream with one 16 times as long is closed."`
	MaxConnections int           `yaml:"max_connections" doc:"How many connections there may be at once; more are closed at once."`
	IdleTimeout    time.Duration `yaml:"idle_timeout" doc:"How long a connection may be silent."`
}

// TLS are the files of RFC 5425, PEM each. They are read when the source starts.
type TLS struct {
	Cert     string `yaml:"cert" doc:"File with the certificate and those between it and its authority."`
	Key      string `yaml:"key" doc:"File with its private key."`
	ClientCA string `yaml:"client_ca" doc:"File with the authorities of clients; then only clients with a certificate of theirs are let in."`
}

// The values of Protocol.
const (
	protocolUDP = "udp"
	protocolTCP = "tcp"
	protocolTLS = "tls"
)

// Defaults are the settings where the file says nothing.
func Defaults() Config {
	return Config{
		Protocol: []string{protocolUDP, protocolTCP}, MaxMessage: 64 << 10, MaxConnections: 1000, IdleTimeout: time.Hour,
	}
}

// Validate returns an error that joins one *event.KeyError for each setting that cannot be used.
func (c Config) Validate() error {
	_, zoneErr := rules.NewSyslog(c.Timezone)
	if zoneErr == nil && c.Raw && c.Timezone != "" {
		zoneErr = errors.New("has no meaning with raw: times are not read then")
	}
	return errors.Join(
		keyError("listen", checkListen(c.Listen)),
		keyError("protocol", c.checkProtocol()),
		c.checkTLS(),
		keyError("timezone", zoneErr),
		keyError("max_message", within(c.MaxMessage, 1<<10, 16<<20, "from 1KiB to 16MiB")),
		keyError("max_connections", within(int64(c.MaxConnections), 1, 100_000, "from 1 to 100000")),
		keyError("idle_timeout", within(int64(c.IdleTimeout), int64(time.Second), int64(30*24*time.Hour), "from 1s to 30d")),
	)
}

func keyError(key string, err error) error {
	if err == nil {
		return nil
	}
	return &event.KeyError{Key: key, Err: err}
}

func within(n, low, high int64, words string) error {
	if n < low || n > high {
		return errors.New("must be " + words)
	}
	return nil
}

func checkListen(address string) error {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return errors.New("expected host:port, such as 127.0.0.1:5140 or :514")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q is no port", port)
	}
	return nil
}

func (c Config) checkProtocol() error {
	if len(c.Protocol) == 0 {
		return errors.New("expected udp, tcp, tls, or a list of them")
	}
	for i, p := range c.Protocol {
		switch {
		case p != protocolUDP && p != protocolTCP && p != protocolTLS:
			return fmt.Errorf("%q is none of udp, tcp, tls", p)
		case slices.Contains(c.Protocol[:i], p):
			return fmt.Errorf("%s is there twice", p)
		}
	}
	if c.speaks(protocolTCP) && c.speaks(protocolTLS) {
		return errors.New("tcp and tls cannot share a port; write a pipeline for each")
	}
	return nil
}

func (c Config) speaks(protocol string) bool { return slices.Contains(c.Protocol, protocol) }

func (c Config) checkTLS() error {
	if !c.speaks(protocolTLS) {
		if c.TLS != (TLS{}) {
			return keyError("tls", fmt.Errorf("has no meaning for %s; write protocol: tls", strings.Join(c.Protocol, " and ")))
		}
		return nil
	}
	var faults []error
	for _, f := range [...]struct{ key, file string }{{"tls.cert", c.TLS.Cert}, {"tls.key", c.TLS.Key}} {
		if f.file == "" {
			faults = append(faults, keyError(f.key, errors.New("required for protocol: tls")))
		}
	}
	return errors.Join(faults...)
}

// load reads the files. TLS 1.2 is the least, which RFC 9662 demands too.
func (t TLS) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("tls.cert and tls.key: %w", err)
	}
	out := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if t.ClientCA == "" {
		return out, nil
	}
	text, err := os.ReadFile(t.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("tls.client_ca: %w", err)
	}
	out.ClientCAs, out.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !out.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("tls.client_ca: there is no certificate in %s", t.ClientCA)
	}
	return out, nil
}
