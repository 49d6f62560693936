// Package databasetest runs a PostgreSQL server of its own for tests and measurements: in a temporary folder, on a free port of
// loopback, with the settings that a careful operator has (fsync on). Nothing of a server that is installed as a service is
// touched.
package databasetest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrMissing means that PostgreSQL is not installed on this machine.
var ErrMissing = errors.New("there is no PostgreSQL server on this machine: apt-get install postgresql")

// Server is one PostgreSQL server. Its methods must not be called concurrently, but Database may.
type Server struct {
	bin, dir string
	port     int
	as       *syscall.Credential // nil: the user of this process
	process  *exec.Cmd
	ended    chan struct{} // closed when process has ended
	mu       sync.Mutex    // guards named
	named    int
	settings []string // further ones, name=value
}

// find returns the folder of the newest server that is installed.
func find() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if path, err := exec.LookPath("initdb"); err == nil && len(found) == 0 {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			found = []string{path}
		}
	}
	if len(found) == 0 {
		return "", ErrMissing
	}
	slices.SortFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(found[len(found)-1]), nil
}

// version is the number in /usr/lib/postgresql/15/bin/initdb, 0 where there is none.
func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	return n
}

// Start makes a server with settings (name=value) and starts it. Stop it. Its error is ErrMissing if none is installed.
func Start(settings ...string) (*Server, error) {
	bin, err := find()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, settings: settings}
	if s.dir, err = os.MkdirTemp("", "millrace-postgres-"); err != nil {
		return nil, err
	}
	if err = s.prepare(); err == nil {
		err = s.Run()
	}
	if err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// prepare makes the folder of the data. A server refuses to run as root, so there another user has it.
func (s *Server) prepare() error {
	if os.Getuid() == 0 {
		if err := s.demote(); err != nil {
			return err
		}
	}
	c := s.command("initdb", "-D", s.data(), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	var err error
	s.port, err = freePort()
	return err
}

func (s *Server) demote() error {
	who, err := user.Lookup("postgres")
	if err != nil {
		if who, err = user.Lookup("nobody"); err != nil {
			return err
		}
	}
	uid, err := strconv.Atoi(who.Uid)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(who.Gid)
	if err != nil {
		return err
	}
	s.as = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(s.dir, uid, gid)
}

// freePort is a port below those that the system gives to connections: none of them can take it while the server is down.
func freePort() (int, error) {
	for range 100 {
		port := 10000 + rand.IntN(20000)
		if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", port)); err == nil {
			return port, l.Close()
		}
	}
	return 0, errors.New("no port is free")
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(s.bin, name), args...)
	c.Dir = s.dir
	c.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Setpgid: true}
	return c
}

// Run starts the server again after Kill and waits until it answers.
func (s *Server) Run() error {
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.port)}
	usual := []string{"listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=on", "max_connections=40"}
	for _, setting := range append(usual, s.settings...) {
		args = append(args, "-c", setting)
	}
	c := s.command("postgres", args...)
	c.Stdout, c.Stderr = log, log
	if err := c.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { _ = c.Wait(); close(ended) }()
	s.process, s.ended = c, ended
	return s.ready()
}

// ready waits until the server takes a connection.
func (s *Server) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		err := s.exec(ctx, "postgres", "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("the server ended: %w\n%s", err, s.Log())
		case <-ctx.Done():
			return fmt.Errorf("the server does not answer: %w\n%s", err, s.Log())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Log is what the server has written.
func (s *Server) Log() string {
	text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
	return string(text)
}

func (s *Server) exec(ctx context.Context, database, query string) error {
	c, err := pgconn.Connect(ctx, s.url(database))
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, query).ReadAll()
	return errors.Join(err, c.Close(ctx))
}

func (s *Server) url(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", s.port, database)
}

// Address is where the server listens.
func (s *Server) Address() string { return fmt.Sprint("127.0.0.1:", s.port) }

// Psql is the client of the server's version, connected with a database by its URL.
func (s *Server) Psql(url string, args ...string) *exec.Cmd {
	return exec.Command(filepath.Join(s.bin, "psql"), append([]string{"-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url}, args...)...)
}

// Database makes an empty database and returns its URL. It may be called concurrently.
func (s *Server) Database() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.named++
	name := fmt.Sprint("test", s.named)
	return s.url(name), s.exec(context.Background(), "postgres", "CREATE DATABASE "+name)
}

// Kill ends the server as a crash does: nothing is written any more, and the next start recovers.
func (s *Server) Kill() { s.signal(syscall.SIGQUIT) }

// Standby ends the server in order and starts it as a standby without a primary: everything can be read, nothing written.
func (s *Server) Standby() error {
	s.signal(syscall.SIGINT)
	if err := os.WriteFile(filepath.Join(s.data(), "standby.signal"), nil, 0o644); err != nil {
		return err
	}
	return s.Run()
}

func (s *Server) signal(sig syscall.Signal) {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Signal(sig)
	select {
	case <-s.ended:
	case <-time.After(20 * time.Second):
		_ = s.process.Process.Kill()
		<-s.ended
	}
	s.process = nil
}

// Stop ends the server and removes its folder.
func (s *Server) Stop() error {
	s.signal(syscall.SIGINT)
	err := os.RemoveAll(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

var (
	once   sync.Once
	shared *Server
	failed error
)

// Main runs the tests of a package and then stops the server that they shared. It is for TestMain.
func Main(m *testing.M) int {
	code := m.Run()
	if shared != nil {
		if err := shared.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return max(code, 1)
		}
	}
	return code
}

// Shared is the server that the tests of a package share; the first call starts it, Main stops it.
func Shared(t testing.TB) *Server {
	t.Helper()
	once.Do(func() { shared, failed = Start() })
	check(t, failed)
	return shared
}

// Own is a server that one test has for itself, because it kills it or wants settings.
func Own(t testing.TB, settings ...string) *Server {
	t.Helper()
	s, err := Start(settings...)
	check(t, err)
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// check skips where no server is installed, but not in CI, which installs it.
func check(t testing.TB, err error) {
	t.Helper()
	switch {
	case errors.Is(err, ErrMissing) && os.Getenv("CI") == "":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	}
}

// Postgres is an empty database of the shared server.
func Postgres(t testing.TB) string {
	t.Helper()
	url, err := Shared(t).Database()
	if err != nil {
		t.Fatal(err)
	}
	return url
}
