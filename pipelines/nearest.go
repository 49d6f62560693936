package pipelines

import (
	"fmt"
	"slices"
	"strings"
)

// nearest returns the name that was probably meant, or nothing: one that is at most half of word's length away, in letters to
// change, add, remove or swap, or that begins with the same three letters.
func nearest(word string, names []string) string {
	best, bestDistance := "", 0
	w := foldName(word)
	if len(w) > 64 {
		return ""
	}
	for _, name := range names {
		n := foldName(name)
		d := distance(w, n)
		if 2*d > len(w) && sharedPrefix(w, n) < 3 {
			continue
		}
		if best == "" || d < bestDistance || d == bestDistance && sharedPrefix(w, n) > sharedPrefix(w, foldName(best)) {
			best, bestDistance = name, d
		}
	}
	return best
}

// foldName makes the differences small that are slips of a style and not of the hand.
func foldName(s string) []rune {
	return []rune(strings.ReplaceAll(strings.ToLower(s), "-", "_"))
}

func sharedPrefix(a, b []rune) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

// distance is the optimal string alignment distance: insertions, deletions, substitutions, and swaps of neighbors.
func distance(a, b []rune) int {
	var two []int
	one := make([]int, len(b)+1)
	for j := range one {
		one[j] = j
	}
	for i, x := range a {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j, y := range b {
			cost := 1
			if x == y {
				cost = 0
			}
			row[j+1] = min(row[j]+1, one[j+1]+1, one[j]+cost)
			if i > 0 && j > 0 && x == b[j-1] && a[i-1] == y {
				row[j+1] = min(row[j+1], two[j-1]+1)
			}
		}
		two, one = one, row
	}
	return one[len(b)]
}

// suggest is the hint of an unknown name: the nearest and all that are valid.
func suggest(word string, names []string) string {
	names = slices.Sorted(slices.Values(names))
	if len(names) == 0 {
		return "nothing is valid here: leave it empty, {}"
	}
	list := "valid here: " + strings.Join(names, ", ")
	if n := nearest(word, names); n != "" {
		return fmt.Sprintf("did you mean %q? %s", n, list)
	}
	return list
}
