package outbox

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestSecondOpen(t *testing.T) {
	b := opened(t, Options{})
	link := filepath.Join(t.TempDir(), "link.db")
	if err := os.Symlink(b.path, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{b.path, link} {
		_, err := Open(t.Context(), Options{Path: path})
		var locked *LockedError
		if !errors.As(err, &locked) || locked.Holder != os.Getpid() {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	opened(t, Options{Path: link})
}

// TestLinkToNothing: a link whose target is still to be made leads to the same file and lock as the target's own name.
func TestLinkToNothing(t *testing.T) {
	dir := t.TempDir()
	for name, target := range map[string]string{"absolute": filepath.Join(dir, "one.db"), "relative": "two.db"} {
		link := filepath.Join(dir, name)
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		b := opened(t, Options{Path: link})
		var locked *LockedError
		if _, err := Open(t.Context(), Options{Path: filepath.Join(dir, filepath.Base(target))}); !errors.As(err, &locked) {
			t.Errorf("%s: opened twice: %v", name, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestRefusedFiles: a file that cannot be opened safely stays as it is, and so does all beside it.
func TestRefusedFiles(t *testing.T) {
	tests := []struct {
		name, want string
		prepare    func(t *testing.T, path string)
	}{
		{"newer", fmt.Sprintf("has schema %d, this program knows up to %d", schemaVersion+1, schemaVersion), func(t *testing.T, path string) {
			closed(t, path)
			change(t, path, fmt.Sprint("PRAGMA user_version = ", schemaVersion+1))
		}},
		{"another program's", "not an outbox", func(t *testing.T, path string) {
			change(t, path, "CREATE TABLE mine (x)", "INSERT INTO mine VALUES (1)")
		}},
		{"another program's with its number", "not an outbox", func(t *testing.T, path string) {
			change(t, path, "PRAGMA application_id = 7", "PRAGMA user_version = 1", "CREATE TABLE mine (x)")
		}},
		{"another program's with a WAL", "not an outbox", func(t *testing.T, path string) {
			change(t, path, "PRAGMA journal_mode = WAL", "CREATE TABLE mine (x)")
		}},
		{"text", "not a database", func(t *testing.T, path string) {
			write(t, path, strings.Repeat("This is no database.\n", 1000))
		}},
		{"short text", "not a database", func(t *testing.T, path string) { write(t, path, "short") }},
		{"folder", "outbox", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}},
		{"missing with a WAL", "is missing or empty, but its log", func(t *testing.T, path string) { write(t, path+"-wal", "log") }},
		{"empty with a WAL", "is missing or empty, but its log", func(t *testing.T, path string) {
			write(t, path, "")
			write(t, path+"-wal", "log")
		}},
		{"without an id", "has no id", func(t *testing.T, path string) {
			closed(t, path)
			change(t, path, "DELETE FROM file")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "outbox.db")
			tt.prepare(t, path)
			if info, err := os.Stat(path); err == nil && info.IsDir() {
				dir = path
			}
			before := files(t, dir)
			b, err := Open(t.Context(), Options{Path: path, Reserve: 4096})
			if err == nil {
				_ = b.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v", err)
			}
			unchanged(t, before, files(t, dir))
		})
	}
}

// unchanged compares the files of a folder. The index of a WAL holds nothing of its own and may come or go with an empty WAL.
func unchanged(t *testing.T, before, after map[string]string) {
	t.Helper()
	for _, m := range []map[string]string{before, after} {
		maps.DeleteFunc(m, func(name, text string) bool {
			return strings.HasSuffix(name, "-shm") || strings.HasSuffix(name, "-wal") && text == ""
		})
	}
	if !maps.Equal(before, after) {
		t.Errorf("files before: %v, after: %v, or their contents differ",
			slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(after)))
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// closed makes an outbox with a few events at path.
func closed(t *testing.T, path string) {
	t.Helper()
	b := opened(t, Options{Path: path})
	put(t, b, "1", "2", "3")
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// copied copies the files of a folder that keep says to another.
func copied(t *testing.T, from string, keep func(name string) bool) (path string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files(t, from) {
		if keep(name) {
			write(t, filepath.Join(dir, name), text)
		}
	}
	return filepath.Join(dir, "outbox.db")
}

// withWAL is an outbox that was killed, and whose WAL was changed then.
func withWAL(t *testing.T, change func(wal []byte) []byte) (path string) {
	t.Helper()
	b := opened(t, Options{})
	put(t, b, "1", "2", "3")
	path = copied(t, filepath.Dir(b.path), func(name string) bool { return !strings.HasSuffix(name, "-shm") })
	wal, err := os.ReadFile(path + "-wal")
	if err != nil {
		t.Fatal(err)
	}
	write(t, path+"-wal", string(change(wal)))
	return path
}

// TestBehind: an outbox that lacks commits which its mark has seen is refused as it is, and opens without the mark.
func TestBehind(t *testing.T) {
	cases := map[string]func(t *testing.T) (path string){
		"first WAL removed": func(t *testing.T) string {
			b := opened(t, Options{})
			put(t, b, "1", "2", "3")
			return copied(t, filepath.Dir(b.path), func(name string) bool { return !strings.HasSuffix(name, "-wal") })
		},
		"later WAL removed": func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "outbox.db")
			closed(t, path)
			put(t, opened(t, Options{Path: path}), "4")
			return copied(t, filepath.Dir(path), func(name string) bool { return !strings.HasSuffix(name, "-wal") })
		},
		"WAL cut short": func(t *testing.T) string {
			return withWAL(t, func(wal []byte) []byte { return wal[:len(wal)/2] })
		},
		"WAL with a flipped bit": func(t *testing.T) string {
			return withWAL(t, func(wal []byte) []byte { wal[len(wal)/2] ^= 1; return wal })
		},
		"WAL with a flipped bit in its header": func(t *testing.T) string {
			return withWAL(t, func(wal []byte) []byte { wal[20] ^= 1; return wal })
		},
		"older copy": func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "outbox.db")
			closed(t, path)
			older, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			closed(t, path)
			write(t, path, string(older))
			return path
		},
	}
	for name, prepare := range cases {
		t.Run(name, func(t *testing.T) {
			path := prepare(t)
			before := files(t, filepath.Dir(path))
			_, err := Open(t.Context(), Options{Path: path})
			var behind *BehindError
			if !errors.As(err, &behind) || behind.Has >= behind.Seen || !strings.Contains(err.Error(), path) {
				t.Fatalf("%v", err)
			}
			unchanged(t, before, files(t, filepath.Dir(path)))
			if err := os.Remove(path + ".mark"); err != nil {
				t.Fatal(err)
			}
			put(t, opened(t, Options{Path: path}), "fresh")
		})
	}
}

// TestMarkIgnored: a mark that says nothing about this file keeps nobody out.
func TestMarkIgnored(t *testing.T) {
	dir := t.TempDir()
	other, path := filepath.Join(dir, "other.db"), filepath.Join(dir, "outbox.db")
	closed(t, other)
	closed(t, other)
	foreign := files(t, dir)["other.db.mark"]
	closed(t, path)
	own := files(t, dir)["outbox.db.mark"]
	for name, mark := range map[string]string{
		"foreign": foreign, "torn": own[:20], "empty": "", "half new": own[:10] + strings.Repeat("x", len(own)-10), "longer": own + "x",
	} {
		t.Run(name, func(t *testing.T) {
			write(t, path+".mark", mark)
			b := opened(t, Options{Path: path})
			put(t, b, "4")
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if seen, err := readMark(path, b.writer.id); err != nil || seen != b.writer.commits {
				t.Errorf("the mark is at %d, the file at %d (%v)", seen, b.writer.commits, err)
			}
		})
	}
}

// TestUnwritable: the folder cannot be made, or the file cannot be written.
func TestUnwritable(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "file"), "text")
	path := filepath.Join(dir, "file", "outbox.db")
	if _, err := Open(t.Context(), Options{Path: path}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if os.Getuid() == 0 {
		t.Skip("nothing is read-only for root")
	}
	path = filepath.Join(dir, "outbox.db")
	closed(t, path)
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Path: path}); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}

func TestNetworkFileSystem(t *testing.T) {
	for kind, want := range map[int64]string{
		0x6969: "NFS", 0xff534d42: "CIFS", -0xacb2be: "CIFS", 0x01021997: "9P", 0xef53: "", 0x01021994: "", 0x9123683e: "",
	} {
		err := refuseNetwork("/x/outbox.db", kind)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), "("+want+")")) {
			t.Errorf("%#x: %v", kind, err)
		}
	}
}

// TestReadWhileOpening: a program that reads the file keeps its log from being taken in, which is said, not passed over.
func TestReadWhileOpening(t *testing.T) {
	first := opened(t, Options{})
	put(t, first, "1")
	path := copied(t, filepath.Dir(first.path), func(name string) bool { return !strings.HasSuffix(name, "-shm") })
	reader := outside(t, path, "BEGIN")
	if _, err := reader.integer("SELECT count(*) FROM segments"); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Options{Path: path}); err == nil || !strings.Contains(err.Error(), "another program reads") {
		t.Fatalf("%v", err)
	}
	if err := reader.close(); err != nil {
		t.Fatal(err)
	}
	if b := opened(t, Options{Path: path}); b.topic("t").head() != 1 {
		t.Error("the event is not there")
	}
}

// TestFullAtStart: the reserve lets an outbox start whose log cannot be taken in for want of room.
func TestFullAtStart(t *testing.T) {
	lib := shim(t)
	for n := 1; n <= 3; n++ {
		path := prepared(t, "")
		if r := run(t, lib, path, "hot:20"); !r.killed || r.acked != crashRounds {
			t.Fatalf("the first child: %+v", r)
		}
		r := run(t, lib, path, "open", "FAULT_AT="+[]string{"", "1", "2", "3"}[n], "FAULT_DO=ENOSPC")
		if r.code != 0 {
			t.Errorf("step %d: %+v", n, r)
		}
		verify(t, "", path, 20, crashRounds)
	}
}
