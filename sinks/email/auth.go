package email

import (
	"encoding/base64"
	"slices"
	"strings"

	"github.com/wneessen/go-mail/smtp"
)

// mechanism picks a way to log in, nil if the server knows none of ours. The connection is encrypted or stays on this machine,
// so the plainest that works everywhere comes first.
func (s *Sink) mechanism(offered []string) smtp.Auth {
	switch {
	case slices.Contains(offered, "PLAIN"):
		return smtp.PlainAuth("", s.username, s.password, s.to.host, true)
	case slices.Contains(offered, "LOGIN"):
		return smtp.LoginAuth(s.username, s.password, s.to.host, true)
	case slices.Contains(offered, "CRAM-MD5"):
		return smtp.CRAMMD5Auth(s.username, s.password)
	}
	return nil
}

// redact takes the password out of a reply that echoes what was sent.
func (s *Sink) redact(text string) string {
	b64 := base64.StdEncoding.EncodeToString
	for _, secret := range []string{b64([]byte("\x00" + s.username + "\x00" + s.password)), b64([]byte(s.password)), s.password} {
		text = strings.ReplaceAll(text, secret, "…")
	}
	return text
}
