package pipelines

import "testing"

func TestIsConstant(t *testing.T) {
	for text, want := range map[string]bool{
		"1": true, "-2.5": true, " true ": true, "nil": true, "null": true, `"a b"`: true, `'x'`: true, "`x`": true, `""`: true,
		"id": false, "data.order": false, `data["order"]`: false, `"a" + id + "b"`: false, `'`: false, "nill": false,
	} {
		if got := isConstant(text); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
