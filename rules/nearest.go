package rules

import (
	"fmt"
	"strings"
)

// hintFrom names what was probably meant and all that would be valid.
func hintFrom(name string, valid []string, what string) string {
	all := fmt.Sprintf("the %s are %s", what, strings.Join(valid, ", "))
	if near := nearest(name, valid); near != "" {
		return fmt.Sprintf("did you mean %q? %s", near, all)
	}
	return all
}

// nearest is the valid name that is probably meant: the one with the least edit distance, if that is at most half its length,
// else one that shares its beginning with name; or none.
func nearest(name string, valid []string) string {
	best, least := "", len(name)+1
	for _, v := range valid {
		d := distance(strings.ToLower(name), strings.ToLower(v))
		if d < least && 2*d <= len(v) {
			best, least = v, d
		}
	}
	if best != "" {
		return best
	}
	for _, v := range valid {
		if len(name) >= 3 && (strings.HasPrefix(v, name) || strings.HasPrefix(name, v) && len(v) >= 3) {
			return v
		}
	}
	return ""
}

// distance is how many letters must be added, dropped, changed or exchanged with their neighbor to make b of a.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
