package rules

import "strings"

// words splits a topic or a pattern. The empty text has no words.
func words(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ".")
}

// matchTopic says whether a topic matches a pattern as in AMQP: words are separated by dots, * stands for one word, # for any
// number of words, none included.
func matchTopic(topic, pattern []string) bool {
	// The classic walk with one point of return: only the last # ever needs to take another word.
	t, p := 0, 0
	hash, resume := -1, 0
	for t < len(topic) {
		switch {
		case p < len(pattern) && pattern[p] == "#":
			hash, resume = p, t
			p++
		case p < len(pattern) && (pattern[p] == "*" || pattern[p] == topic[t]):
			p++
			t++
		case hash >= 0:
			resume++
			p, t = hash+1, resume
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == "#" {
		p++
	}
	return p == len(pattern)
}

// opTopic is topic(text, pattern). A literal pattern comes split already.
func opTopic(r *run, a []any) (any, error) {
	x, y := r.settle(a[0]), r.settle(a[1])
	if isNil(x) || isNil(y) {
		return unsure(x, y), nil
	}
	topic, ok := x.(string)
	if !ok {
		return nil, fault("topic takes a string, not %s", kindOf(x))
	}
	pattern, ok := y.([]string)
	if s, text := y.(string); text {
		pattern, ok = words(s), true
	}
	if !ok {
		return nil, fault("the pattern of topic is a string, not %s", kindOf(y))
	}
	if err := r.charge(1 + len(topic)*len(pattern)/16); err != nil {
		return nil, err
	}
	return matchTopic(words(topic), pattern), nil
}
