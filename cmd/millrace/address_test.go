package main

import (
	"errors"
	"testing"
)

func TestAdminURL(t *testing.T) {
	for given, want := range map[string]string{
		"127.0.0.1:8081":                      "http://127.0.0.1:8081",
		":8081":                               "http://127.0.0.1:8081",
		"[::1]:8081":                          "http://[::1]:8081",
		"http://localhost:8081/":              "http://localhost:8081",
		"https://millrace.example.com/admin/": "https://millrace.example.com/admin",
		"":                                    "",
		"ftp://127.0.0.1":                     "",
		"http://":                             "",
		"http://user:pw@127.0.0.1/":           "",
		"http://127.0.0.1:8081/?x=1":          "",
		"a b":                                 "",
	} {
		u, err := adminURL(given)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q is taken as %s", given, u)
		case want != "" && err != nil:
			t.Errorf("%q: %v", given, err)
		case want != "" && u.String() != want:
			t.Errorf("%q: %s, want %s", given, u, want)
		}
	}
}

func TestFindInstance(t *testing.T) {
	env := func(value string) func(string) (string, bool) {
		return func(name string) (string, bool) { return value, name == "MILLRACE_ADMIN" && value != "" }
	}
	file := func() (string, error) { return "127.0.0.1:3", nil }
	for _, c := range []struct{ flag, env, host, from string }{
		{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:1", "--admin"},
		{"", "127.0.0.1:2", "127.0.0.1:2", "MILLRACE_ADMIN"},
		{"", "", "127.0.0.1:3", "admin.listen"},
	} {
		in, err := findInstance(c.flag, env(c.env), file)
		if err != nil || in.url.Host != c.host || in.from != c.from || in.fromFile != (c.from == "admin.listen") {
			t.Errorf("%+v: %+v %v", c, in, err)
		}
	}
	unread := errors.New("the file has faults")
	if _, err := findInstance("", env(""), func() (string, error) { return "", unread }); !errors.Is(err, unread) {
		t.Errorf("the fault of the file is lost: %v", err)
	}
	var e *exit
	if _, err := findInstance("no address", env(""), file); !errors.As(err, &e) || e.code != exitUsage {
		t.Errorf("a bad --admin: %v", err)
	}
}
