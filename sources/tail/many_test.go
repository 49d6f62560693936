package tail

import (
	"fmt"
	"testing"
)

// TestManyFilesComeAndGo has 1,000 files in one folder, all of them written to in turn, and then others in their place: how many are open at
// once is bounded, each line comes once, and what is known of files that went is forgotten.
func TestManyFilesComeAndGo(t *testing.T) {
	const files, rounds = 1000, 2
	r := newRig(t, t.TempDir(), "*.log")
	r.limits.open = 64
	r.start()
	name := func(round, i int) string { return fmt.Sprintf("%d-%d.log", round, i) }
	for round := range rounds {
		for part := range 2 {
			for i := range files {
				r.write(name(round, i), fmt.Sprintf("line %d of file %d in round %d\n", part, i, round))
			}
			r.look()
			if r.engine.open > r.limits.open {
				t.Errorf("%d files are open", r.engine.open)
			}
			if got := len(r.lines()); got != files {
				t.Fatalf("round %d, part %d: %d lines of %d", round, part, got, files)
			}
		}
		for i := range files {
			r.remove(name(round, i))
		}
		r.pass(2 * idle)
		if n := len(r.state); n > 10 || len(r.engine.files) > 10 || len(r.engine.byInode) > 10 || len(r.engine.byPath) > 10 || r.engine.open > 0 {
			t.Fatalf("round %d: %d positions, %d files, %d inodes, %d paths, %d open", round, n, len(r.engine.files), len(r.engine.byInode),
				len(r.engine.byPath), r.engine.open)
		}
	}
	if got := r.counts.read(); got.Losses != 0 {
		t.Errorf("%+v", got)
	}
}
