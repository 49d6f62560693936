package console_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"testing"

	"github.com/millrace-run/millrace/console"
)

func TestBackup(t *testing.T) {
	s := httptest.NewServer(console.New(console.Options{Listen: "127.0.0.1:0", Version: "v1", Instance: &instance{}}))
	defer s.Close()
	told := ""
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		told = fmt.Sprint(code, " ", h.Get(console.ProgressHeader))
		return nil
	}})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/api/v1/backup", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "all of it" || res.Header.Get("Content-Type") != console.BackupType || res.ContentLength != 9 || told != "102 1/2" {
		t.Errorf("%q, %v, told %q", body, res.Header, told)
	}
	if res, _ := ask(t, &instance{}, "GET", "/api/v1/backup", ""); res.StatusCode != http.StatusMethodNotAllowed {
		t.Error(res.Status)
	}
	if res, _ := ask(t, &instance{err: errors.ErrUnsupported}, "POST", "/api/v1/backup", ""); res.StatusCode != http.StatusNotImplemented {
		t.Error(res.Status)
	}
	if res, body := ask(t, &instance{err: errors.New("no room")}, "POST", "/api/v1/backup", ""); res.StatusCode != http.StatusServiceUnavailable {
		t.Error(res.Status, body)
	}
}
