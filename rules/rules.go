// Package rules evaluates expressions on events: filters, templates and the pure stages made of them. It is the only home of
// the expression engine. Everything here gives the same answer for the same event: no clock, no randomness, no I/O.
//
// # Values
//
// data is JSON, text or bytes by its content type: what is not JSON is a string of those very bytes. Without data it is missing. A
// JSON type over bytes that are no JSON is an error of every expression that looks into data, and of no other. Of members with
// equal names the first counts. Fields whose path is known when an expression is compiled are fetched from the bytes in one pass,
// which also checks them; the whole is decoded only for an expression that uses it as a whole or with a computed path.
//
// time and received are times in UTC; an event's time that is no RFC 3339 time is an error where it is used. Extensions are
// booleans or numbers where the event says so, else strings. Numbers are exact (see number.go): int(19.99 * 100) is 1999.
// Strings count characters in len, indexOf and slices. Month() of a time is a number and Weekday() an English name.
//
// # Missing fields
//
// A field that is not there is nil, and so is every member of it; null is nil too. Arithmetic and functions with nil give nil.
// Ordering and text tests with nil are neither true nor false, and a decision that ends so is false and names the field, be it
// negated or not; see logic.go. nil == nil is true, nil == 1 is false and names the field, nil != 1 is true. What stands left of ??
// or in a chain with ?. is never named, nor is a field that is compared with nil.
//
// # Bounds
//
// 4 KiB of source, 1,000 nodes, predicates at most 2 deep, ranges of 10,000 numbers, JSON 1,000 deep, and a budget of a million
// steps for each evaluation. What exceeds them is an error, at once or when an event is too large for the expression.
package rules

// Op is a pure stage. It edits the subject (slices of its event are replaced, never written to), and says whether the event goes on.
// missing names the first field that a decision needed and did not find, or is empty. An Op is safe for concurrent use, a Subject is
// not.
type Op func(s *Subject) (keep bool, missing string, err error)
