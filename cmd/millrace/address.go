package main

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// adminURL turns what a person types (a URL or host:port) into the base URL of an admin listener.
func adminURL(given string) (*url.URL, error) {
	text := given
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%q is no address: give host:port or http://host:port", given)
	}
	if u.Hostname() == "" {
		u.Host = net.JoinHostPort("127.0.0.1", u.Port())
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u, nil
}

// instance says which running Millrace a command is for.
type instance struct {
	url      *url.URL
	from     string // where the address came from, in words
	fromFile bool
}

// findInstance follows the order: --admin, MILLRACE_ADMIN, admin.listen of the file. fallback is asked only for the last.
func findInstance(flag string, env func(string) (string, bool), fallback func() (string, error)) (instance, error) {
	given, in := flag, instance{from: "--admin"}
	if given == "" {
		given, _ = env("MILLRACE_ADMIN")
		in.from = "MILLRACE_ADMIN"
	}
	if given == "" {
		listen, err := fallback()
		if err != nil {
			return instance{}, err
		}
		given, in.from, in.fromFile = listen, "admin.listen", true
	}
	u, err := adminURL(given)
	if err != nil {
		return instance{}, &exit{exitUsage, fmt.Errorf("%s: %w", in.from, err)}
	}
	in.url = u
	return in, nil
}
