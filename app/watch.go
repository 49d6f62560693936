package app

import (
	"context"
	"crypto/sha256"
	"os"
	"time"

	"github.com/millrace-run/millrace/pipelines"
)

// fingerprint is the same as long as the files of a configuration are; zero when they cannot be read.
type fingerprint [sha256.Size]byte

// fingerprintOf reads a file, or those of a folder that belong to the configuration.
func fingerprintOf(path string) fingerprint {
	h := sha256.New()
	for _, f := range pipelines.ConfigFiles(path) {
		data, err := os.ReadFile(f)
		if err != nil {
			return fingerprint{}
		}
		sum := sha256.Sum256(data)
		h.Write([]byte(f))
		h.Write(sum[:])
	}
	return fingerprint(h.Sum(nil))
}

// look is how often the files are looked at. A change is taken up when two looks in a row saw the same, because an editor may
// still be writing.
const look = 250 * time.Millisecond

// watch waits until the files have changed and can be run, and returns the new plan; nil when ctx ends before.
func (d *Dev) watch(ctx context.Context) *Plan {
	if !d.Reload {
		<-ctx.Done()
		return nil
	}
	last := d.seen
	for {
		again, release := d.Clock.After(look)
		select {
		case <-again:
		case <-ctx.Done():
			release()
			return nil
		}
		now := fingerprintOf(d.Source.Path)
		settled := now == last
		last = now
		if !settled || now == d.seen || now == (fingerprint{}) {
			continue
		}
		d.seen = now
		if plan, err := d.load(); err == nil {
			return plan
		}
		d.Logger.Warn("the file that was saved cannot be run, the one before goes on", "path", d.Source.Path)
	}
}
