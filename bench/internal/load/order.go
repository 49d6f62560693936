package load

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// The events of a benchmark are orders of about 1 KB that differ in their number and in the time at which they were due. Both have
// a fixed width and stand side by side, so that writing an event is copying 31 digits, and finding it in whatever a sink is sent
// (the body alone, a CloudEvent, a batch of them) is looking for Mark.
const (
	// Size is the length of an order in bytes.
	Size = 1024
	// Mark stands before the number of an order.
	Mark = `"order":"`

	numberDigits = 12
	between      = `","sent":`
	timeDigits   = 19 // nanoseconds since 1970

	// tagSize is the length of what follows Mark and differs between orders.
	tagSize = numberDigits + len(between) + timeDigits
)

// orders returns n orders, one a line if there are many, and the places in it at which the tags are written.
func orders(n int) (body []byte, tags []int) {
	head := "{" + Mark + strings.Repeat("0", numberDigits) + between + strings.Repeat("0", timeDigits) +
		`,"amount":149.95,"currency":"EUR","customer":{"id":"c-48213","name":"Zoe Example","email":"zoe@example.com",` +
		`"address":{"street":"1 Example Road","city":"Exampletown","zip":"12345"}},"items":[`
	var items []string
	for i := range 8 {
		items = append(items, fmt.Sprintf(`{"sku":"SKU-%05d","name":"An article","quantity":%d,"price":%d.99}`, i*7919, i+1, 10+i))
	}
	tail := strings.Join(items, ",") + `],"note":"`
	one := head + tail + strings.Repeat("-", Size-len(head)-len(tail)-2) + `"}`
	for range n {
		tags = append(tags, len(body)+len("{"+Mark))
		body = append(body, one...)
		if n > 1 {
			body = append(body, '\n')
		}
	}
	return body, tags
}

// putTag writes the number of an order and when it was due.
func putTag(b []byte, number int, due time.Time) {
	putDigits(b[:numberDigits], int64(number))
	putDigits(b[tagSize-timeDigits:tagSize], due.UnixNano())
}

func putDigits(b []byte, n int64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

// Tag finds the next order in b: its number, when it was due, and what follows. ok is false when there is none.
func Tag(b []byte) (number int, due time.Time, rest []byte, ok bool) {
	i := bytes.Index(b, []byte(Mark))
	if i < 0 || len(b) < i+len(Mark)+tagSize {
		return 0, time.Time{}, nil, false
	}
	b = b[i+len(Mark):]
	n, numbered := digits(b[:numberDigits])
	at, timed := digits(b[tagSize-timeDigits : tagSize])
	return int(n), time.Unix(0, at), b[tagSize:], numbered && timed
}

func digits(b []byte) (n int64, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// Order returns one order's body, for those who store events without HTTP.
func Order(number int, due time.Time) []byte {
	body, tags := orders(1)
	putTag(body[tags[0]:], number, due)
	return body
}
