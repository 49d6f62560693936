package rules

import "strings"

// words splits a pattern. The empty text has no words.
func words(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ".")
}

// matchTopic says whether a topic matches the words of a pattern as in AMQP: words are separated by dots, * stands for one word, #
// for any number of words, none included.
func matchTopic(topic string, pattern []string) bool {
	// The classic walk with one point of return: only the last # ever needs to take another word. t is where a word begins, and
	// beyond the end of the topic when there is none any more.
	t, p := 0, 0
	if topic == "" {
		t = 1
	}
	hash, resume := -1, 0
	for t <= len(topic) {
		end := wordEnd(topic, t)
		switch {
		case p < len(pattern) && pattern[p] == "#":
			hash, resume = p, t
			p++
		case p < len(pattern) && (pattern[p] == "*" || pattern[p] == topic[t:end]):
			p++
			t = end + 1
		case hash >= 0:
			resume = wordEnd(topic, resume) + 1
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

// wordEnd is where the word ends that begins at t.
func wordEnd(topic string, t int) int {
	if n := strings.IndexByte(topic[t:], '.'); n >= 0 {
		return t + n
	}
	return len(topic)
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
	return matchTopic(topic, pattern), nil
}
