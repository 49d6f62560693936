package s3

import (
	"context"
	"os"
	"path"
	"path/filepath"

	"github.com/millrace-run/millrace/event"
)

// folder stands in for a store: objects are files, to try a configuration.
type folder struct{ path, bucket string }

func (f folder) open() error { return nil }
func (f folder) close()      {}

func (f folder) put(_ context.Context, o *object) error {
	if err := os.MkdirAll(f.path, 0o700); err != nil {
		return event.Unavailable(err)
	}
	root, err := os.OpenRoot(f.path)
	if err != nil {
		return event.Unavailable(err)
	}
	defer func() { _ = root.Close() }()
	name := path.Join(f.bucket, o.Key)
	if err = root.MkdirAll(path.Dir(name), 0o700); err == nil {
		err = root.WriteFile(name, o.body, 0o600)
	}
	if err != nil {
		return event.Unavailable(err)
	}
	return nil
}

func (f folder) sweep(context.Context, string) error { return nil }

func (f folder) place(key string) string { return filepath.Join(f.path, f.bucket, key) }
