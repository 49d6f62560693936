package outbox_test

import (
	"testing"

	"github.com/millrace-run/millrace/outbox"
	"github.com/millrace-run/millrace/router"
	"github.com/millrace-run/millrace/router/routertest"
)

var _ router.Log = (*outbox.Outbox)(nil)

func TestConformance(t *testing.T) {
	routertest.Run(t, routertest.Harness{Open: func(t *testing.T, dir string) (router.Log, func() error) {
		o, err := outbox.Open(t.Context(), outbox.Options{Path: dir + "/outbox.db", Reserve: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return o, o.Close
	}})
}
