package http

import (
	"errors"
	"fmt"
	"maps"
	"net"
	nethttp "net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/millrace-run/millrace/event"
	"github.com/millrace-run/millrace/rules"
)

// Config is what a user may set. The zero values of Method and Mode are not valid: begin with Defaults.
type Config struct {
	URL         rules.Template            `yaml:"url,required" doc:"Where to send; path and query may hold {{ expressions }}."`
	DenyPrivate bool                      `yaml:"deny_private" doc:"Connect to public addresses only, whatever the host resolves to."`
	Method      string                    `yaml:"method" doc:"POST, PUT, PATCH or DELETE."`
	Mode        string                    `yaml:"mode" doc:"binary: data as body; structured: CloudEvent in JSON; data: no attributes."`
	Headers     map[string]rules.Template `yaml:"headers,secret" doc:"Further headers by name; values may hold {{ expressions }}."`
}

// The values of Mode.
const (
	modeBinary     = "binary"
	modeStructured = "structured"
	modeData       = "data"
)

// Defaults returns the settings that apply where a user sets none. Each call returns a value that shares nothing with another.
func Defaults() Config { return Config{Method: nethttp.MethodPost, Mode: modeBinary} }

// target is the literal part of the URL: whom the sink talks to, whatever the event holds.
type target struct {
	scheme string
	host   string // with the port, if the URL has one
	name   string // the host alone, as it is looked up and as a certificate must have it
	dial   string // host and port to connect to
	header string // of Host
}

// newTarget completes what the parts of a URL mean on the network: a name beyond ASCII is looked up in its ASCII form, and the
// zone of an IPv6 address is nobody else's business.
func newTarget(scheme string, u *url.URL) (target, error) {
	t := target{scheme: scheme, host: u.Host, name: u.Hostname()}
	if _, err := netip.ParseAddr(t.name); err != nil {
		if t.name, err = httpguts.PunycodeHostPort(t.name); err != nil {
			return target{}, fmt.Errorf("the host is not valid: %w", err)
		}
	}
	port := u.Port()
	t.dial = net.JoinHostPort(t.name, port)
	if port == "" {
		t.dial = net.JoinHostPort(t.name, map[string]string{"http": "80", "https": "443"}[scheme])
	}
	t.header, _, _ = strings.Cut(t.name, "%")
	if strings.Contains(t.header, ":") {
		t.header = "[" + t.header + "]"
	}
	if port != "" {
		t.header += ":" + port
	}
	return t, nil
}

func (c Config) check() (target, []header, error) {
	to, urlErr := checkURL(c.URL)
	if urlErr == nil && c.DenyPrivate {
		urlErr = checkLiteralAddress(to)
	}
	headers, headerErr := checkHeaders(c.Headers, c.Mode)
	return to, headers, errors.Join(
		keyError("url", urlErr),
		keyError("method", oneOf(c.Method, nethttp.MethodPost, nethttp.MethodPut, nethttp.MethodPatch, nethttp.MethodDelete)),
		keyError("mode", oneOf(c.Mode, modeBinary, modeStructured, modeData)),
		headerErr,
	)
}

// keyError keeps nil a nil interface.
func keyError(key string, err error) error {
	if err == nil {
		return nil
	}
	return &event.KeyError{Key: key, Err: err}
}

func oneOf(value string, valid ...string) error {
	if slices.Contains(valid, value) {
		return nil
	}
	return fmt.Errorf("%q is none of %s", value, strings.Join(valid, ", "))
}

// checkURL looks at what is known before the first event. No error of it quotes the URL, which may hold a token.
func checkURL(t rules.Template) (target, error) {
	text, literal := t.Literal()
	if !literal {
		text = t.Prefix()
	}
	if text == "" && literal {
		return target{}, errors.New("required")
	}
	if source := t.String(); strings.TrimSpace(source) != source || hasControl(text) {
		return target{}, errors.New("there is white space around it or a control character in it")
	}
	scheme, rest, ok := strings.Cut(text, "://")
	if scheme = strings.ToLower(scheme); !ok || scheme != "http" && scheme != "https" {
		return target{}, errors.New("it must begin with http:// or https://, in literal text")
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 && !literal {
		return target{}, errors.New("scheme, host and port must be literal: write a / before the first {{")
	}
	authority := rest
	if end >= 0 {
		authority = rest[:end]
	}
	to, err := checkAuthority(scheme, authority)
	if err != nil {
		return target{}, err
	}
	return to, checkLiteralPath(rest[len(authority):], literal)
}

func checkAuthority(scheme, authority string) (target, error) {
	if strings.Contains(authority, "@") {
		return target{}, errors.New("a user name or password does not belong in the URL: send an Authorization header with headers")
	}
	u, err := url.Parse(scheme + "://" + authority)
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err
		}
		return target{}, fmt.Errorf("the host is not valid: %w", err)
	}
	if u.Hostname() == "" {
		return target{}, errors.New("the host is missing")
	}
	if _, port, ok := strings.Cut(u.Host[strings.LastIndex(u.Host, "]")+1:], ":"); ok {
		if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
			return target{}, fmt.Errorf("port %q is not between 1 and 65535", port)
		}
	}
	return newTarget(scheme, u)
}

// checkLiteralPath looks at the literal text behind the host. Of a template the last path segment is not complete yet.
func checkLiteralPath(text string, literal bool) error {
	if strings.Contains(text, "#") {
		return errors.New("a fragment (#…) is never sent: leave it out, or write %23 for the character")
	}
	path, _, hasQuery := strings.Cut(text, "?")
	if _, err := url.Parse(encodeStray(path)); err != nil && (literal || hasQuery) {
		return errors.New("the path has a % that two hexadecimal digits do not follow")
	}
	if !literal && !hasQuery {
		path = path[:strings.LastIndex(path, "/")+1]
	}
	return checkDots(path)
}

// checkDots refuses the path segments . and .., however they are written. What a server or a proxy makes of them is a matter
// of its own, and a value out of an event must not climb out of the folder that the file names.
func checkDots(path string) error {
	for segment := range strings.SplitSeq(path, "/") {
		switch strings.ReplaceAll(strings.ToLower(segment), "%2e", ".") {
		case ".", "..":
			return errors.New("the path has . or .. as a segment")
		}
	}
	return nil
}

func checkLiteralAddress(to target) error {
	u := url.URL{Host: to.host}
	addr, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return nil // a name: what it resolves to is looked at when it is dialed
	}
	if kind := privateKind(addr); kind != "" {
		return fmt.Errorf("%s is a %s address, which deny_private refuses", addr, kind)
	}
	return nil
}

// header is one header that the user asked for.
type header struct {
	key   string // as the file has it
	name  string
	value rules.Template
}

func checkHeaders(set map[string]rules.Template, mode string) ([]header, error) {
	var headers []header
	var errs []error
	seen := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		err := checkHeader(name, canonical, mode, set[name])
		if first, twice := seen[canonical]; twice && err == nil {
			err = fmt.Errorf("the same header as %q", first)
		}
		seen[canonical] = name
		if err != nil {
			errs = append(errs, keyError("headers."+name, err))
			continue
		}
		headers = append(headers, header{key: name, name: canonical, value: set[name]})
	}
	return headers, errors.Join(errs...)
}

func checkHeader(name, canonical, mode string, value rules.Template) error {
	if !isToken(name) {
		return errors.New("not a valid name of a header")
	}
	if err := reserved(canonical, mode); err != nil {
		return err
	}
	if text, ok := value.Literal(); ok && hasControl(text) {
		return errors.New("the value has a control character in it")
	}
	return nil
}

// reserved says why a header is not the user's to set.
func reserved(canonical, mode string) error {
	switch canonical {
	case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Upgrade",
		"Expect":
		return errors.New("this header belongs to the connection and cannot be set")
	case "Idempotency-Key", "Idempotency-Keys", "Millrace-Attempt", "Traceparent":
		return errors.New("this header is set by Millrace")
	case "Content-Type":
		if mode != modeData {
			return errors.New("the content type follows from mode; only mode: data lets you set it")
		}
	}
	if strings.HasPrefix(canonical, "Ce-") {
		return errors.New("ce- headers are the event's attributes: change those with a set stage")
	}
	return nil
}

// isToken is RFC 9110's token, what a header's name is made of.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		alphanumeric := c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9'
		if !alphanumeric && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// hasControl says whether s has a byte that could end a header or a line: below space, or DEL.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}
