package webhook

import (
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/millrace-run/millrace/event"
)

func TestReceive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Defaults()
		c.Path, c.MaxBody, c.Accept = "/shops/{shop}/orders", 20, []string{"application/json", "application/cloudevents+json"}
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		params := map[string]string{"shop": "a b/c"}
		json := map[string]string{"Content-Type": "application/json"}
		clock := event.SystemClock{}
		for _, c := range []struct {
			post     Post
			want, no string
		}{
			{post: Post{Headers: json, Params: params, Body: []byte(`{"a":1}`)},
				want: `id-1 /shops/a%20b%2Fc/orders millrace.webhook {"a":1}`},
			{post: Post{Params: params, Query: map[string]string{"x": "y z"}, Body: []byte(`1`)},
				want: `id-1 /shops/a%20b%2Fc/orders millrace.webhook 1`},
			{post: Post{Headers: map[string]string{"content-type": "application/json", "ce-specversion": "1.0", "ce-id": "x",
				"ce-source": "/s", "ce-type": "t"}, Params: params, Body: []byte(`{}`)}, want: `x /s t {}`},
			{post: Post{Headers: json, Params: params, Body: []byte(`{`)},
				no: `400 Malformed request: the body is not valid JSON: byte 1: the text ends where a member's name in double quotes belongs`},
			{post: Post{Headers: json, Params: params, Body: make([]byte, 21)},
				no: `413 Body too large: the body has more than 20 bytes, which is the most that this webhook takes (max_body)`},
			{post: Post{Headers: map[string]string{"Content-Type": "text/plain"}, Params: params},
				no: `415 Unsupported media type: text/plain is not taken here, only application/json, application/cloudevents+json`},
			{post: Post{Headers: json, Body: []byte(`{}`)},
				no: `the path /shops/{shop}/orders has the parameter {shop}, which needs a value`},
			{post: Post{Headers: json, Params: map[string]string{"shop": "a", "other": "b"}},
				no: `the path /shops/{shop}/orders has no parameter {other}`},
		} {
			events, err := s.Receive(c.post, clock, func() string { return "id-1" })
			got, no := "", ""
			for _, e := range events {
				got += e.ID + " " + e.Source + " " + e.Type + " " + string(e.Data)
				if !e.Received.Equal(clock.Now()) {
					t.Errorf("received at %v", e.Received)
				}
			}
			if err != nil {
				no = err.Error()
			}
			if d := cmp.Diff([]string{c.want, c.no}, []string{got, no}); d != "" {
				t.Error(d)
			}
		}
	})
}
