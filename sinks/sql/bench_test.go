package sql

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/millrace-run/millrace/databases/databasetest"
	"github.com/millrace-run/millrace/event"
)

// BenchmarkDeliver writes batches of orders of 1 KB, of which six columns are kept.
func BenchmarkDeliver(b *testing.B) {
	for _, engine := range []string{"postgres", "sqlite", "nowhere"} {
		b.Run(engine, func(b *testing.B) {
			c := Defaults()
			c.Table, c.Create = "orders", true
			c.URL = "sqlite:" + b.TempDir() + "/shop.db"
			if engine == "postgres" {
				c.URL = databasetest.Postgres(b)
			}
			c.Columns = columns(b, "source", "source", "id", "id", "number", "data.order", "amount:numeric", "data.amount", "customer", "data.customer.name",
				"email", "data.customer.email")
			s := newSink(b, c)
			if engine == "nowhere" {
				s.writer = nowhere{}
			}
			rest := strings.Repeat("-", 800)
			n := 0
			b.ReportAllocs()
			for b.Loop() {
				batch := make([]event.Delivery, 1000)
				for i := range batch {
					n++
					batch[i] = order(fmt.Sprint("o-", n), fmt.Sprintf(`{"order":"%012d","amount":149.95,"customer":{"id":"c-48213","name":"Zoe Example",`+
						`"email":"zoe@example.com"},"note":"%s"}`, n, rest))
				}
				for _, err := range s.Deliver(b.Context(), batch).Verdicts {
					if err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

type nowhere struct{}

func (nowhere) begin()                                      {}
func (nowhere) direct(context.Context, *rows) (bool, error) { return false, nil }
func (nowhere) write(context.Context, []row) error          { return nil }
func (nowhere) close()                                      {}
