package http

import "bytes"

// glance reads the head of an answer that says yes and nothing more: HTTP/1.1, 2xx, a body of a given length, a connection that
// stays. Nearly all answers are such, and for them a map of headers is not worth its price. It returns the status, how long the
// head is and how long the body behind it. ok is false for every other head, also for one that is not whole yet: then nothing is
// said about it, and net/http reads it. What glance accepts, net/http reads in the same way.
func glance(text []byte) (status, head, body int, ok bool) {
	const version = "HTTP/1.1 "
	if len(text) < len(version)+5 || string(text[:len(version)]) != version {
		return 0, 0, 0, false
	}
	status, digits := number(text[len(version) : len(version)+3])
	if after := text[len(version)+3]; !digits || !isSuccess(status) || after != ' ' && after != '\r' {
		return 0, 0, 0, false
	}
	body, known := -1, status == 204
	for head = 0; ; {
		end := bytes.Index(text[head:], []byte("\r\n"))
		if end < 0 || bytes.IndexByte(text[head:head+end], '\n') >= 0 {
			return 0, 0, 0, false
		}
		line := text[head : head+end]
		first := head == 0
		head += end + 2
		if len(line) == 0 {
			break
		}
		if first {
			continue
		}
		length, plain := glanceLine(line)
		if !plain || length >= 0 && body >= 0 {
			return 0, 0, 0, false
		}
		body = max(body, length)
	}
	if status == 204 {
		body = 0
	}
	return status, head, body, known || body >= 0
}

// glanceLine looks at one header: the length that it gives to the body, -1 if it is about something else. It is not plain when it
// says how the body or the connection end in any other way, or when it has not the form of a header.
func glanceLine(line []byte) (length int, plain bool) {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok || len(name) == 0 {
		return 0, false
	}
	for _, c := range name {
		if c|0x20 < 'a' || c|0x20 > 'z' {
			if c != '-' && (c < '0' || c > '9') {
				return 0, false
			}
		}
	}
	switch {
	case bytes.EqualFold(name, []byte("Content-Length")):
		return number(bytes.Trim(value, " \t"))
	case bytes.EqualFold(name, []byte("Transfer-Encoding")), bytes.EqualFold(name, []byte("Connection")),
		bytes.EqualFold(name, []byte("Trailer")):
		return 0, false
	}
	for _, c := range value {
		if c < ' ' && c != '\t' || c == 0x7f {
			return 0, false
		}
	}
	return -1, true
}

// number reads up to nine digits, and nothing else.
func number(text []byte) (n int, ok bool) {
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, len(text) > 0 && len(text) <= 9
}
