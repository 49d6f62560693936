package tests

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

func TestWatch(t *testing.T) {
	dir := t.TempDir()
	file, tests := filepath.Join(dir, "pipelines.yaml"), filepath.Join(dir, "orders_test.yaml")
	save := func(name, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	save(file, "a")
	synctest.Test(t, func(t *testing.T) {
		w := Watch([]string{file}, nil)
		steps := []func(){
			func() { save(file, "ab") },
			func() { save(tests, "new") },
			func() { _ = os.Remove(tests) },
			func() { _ = os.Chtimes(file, time.Time{}, time.Unix(1, 0)) },
		}
		for i, step := range steps {
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			go func() {
				<-time.After(time.Second)
				step()
			}()
			began := time.Now()
			if err := w.Wait(ctx); err != nil {
				t.Errorf("step %d was not seen: %v", i+1, err)
			}
			if took := time.Since(began); took < time.Second || took > 3*time.Second {
				t.Errorf("step %d was seen after %s", i+1, took)
			}
			cancel()
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		save(filepath.Join(dir, "other.txt"), "no concern of ours")
		if w.Wait(ctx) == nil {
			t.Error("there was no change")
		}
	})
}
