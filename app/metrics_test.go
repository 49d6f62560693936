package app

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/console"
	"github.com/millrace-run/millrace/router"
)

func TestFamilies(t *testing.T) {
	orders, warehouse := []router.Label{{Name: "pipeline", Value: "orders"}}, []router.Label{{Name: "pipeline", Value: "warehouse"}}
	got := families([]router.Metric{
		{Name: "a_total", Help: "a", Kind: router.Counter, Labels: orders, Value: 1},
		{Name: "b", Help: "b", Kind: router.Gauge, Value: 2},
		{Name: "a_total", Help: "a", Kind: router.Counter, Labels: warehouse, Value: 3},
	})
	want := []console.Metric{
		{Name: "a_total", Help: "a", Counter: true, Labels: []string{"pipeline"}, Samples: []console.Sample{
			{Labels: []string{"orders"}, Value: 1}, {Labels: []string{"warehouse"}, Value: 3},
		}},
		{Name: "b", Help: "b", Labels: []string{}, Samples: []console.Sample{{Labels: []string{}, Value: 2}}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
