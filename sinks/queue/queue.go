// Package queue ends a subscription at an API from which workers take events themselves: they lease some, do their work, and
// acknowledge them. Any language that can post JSON can be a worker.
//
// The package has the settings and the HTTP face. Which event goes to whom is decided by an event.Lender, who keeps leases on disk.
package queue

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"time"

	"github.com/millrace-run/millrace/event"
)

const (
	// MaxEvents is the most that one request gets, and the most receipts that one returns.
	MaxEvents = 1000
	// MaxWait is the longest that a request waits for an event.
	MaxWait = time.Minute
	// MaxLease is the longest that an event stays in the hands of a worker who says nothing.
	MaxLease = 12 * time.Hour
	minLease = time.Second
)

// Config are the settings of a queue.
type Config struct {
	Lease time.Duration `yaml:"lease" doc:"How long a worker has for an event before another gets it, unless it asks for less or more."`
	Token string        `yaml:"token,secret" doc:"What workers send as Authorization: Bearer …; without one http.listen must be on loopback."`
}

// Defaults are the settings where the file says nothing.
func Defaults() Config { return Config{Lease: 30 * time.Second} }

// Validate returns an *event.KeyError about the first setting that cannot be used.
func (c Config) Validate() error {
	if err := checkLease(c.Lease); err != nil {
		return &event.KeyError{Key: "lease", Err: err}
	}
	for _, r := range c.Token {
		if r <= ' ' || r > '~' {
			return &event.KeyError{Key: "token", Err: errors.New("must be printable ASCII without spaces, as HTTP carries it in a header")}
		}
	}
	return nil
}

func checkLease(d time.Duration) error {
	if d < minLease || d > MaxLease {
		return fmt.Errorf("must be from %s to %s", minLease, MaxLease)
	}
	return nil
}

// Queue is one queue. Its methods may be called concurrently once Serve has its Lender.
type Queue struct {
	config Config
	token  [sha256.Size]byte
}

// New checks the settings and opens nothing. Its errors are *event.KeyError.
func New(c Config) (*Queue, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Queue{config: c, token: sha256.Sum256([]byte(c.Token))}, nil
}

// Open says whether everybody may take events who reaches the listener: there is no token.
func (q *Queue) Open() bool { return q.config.Token == "" }

// admits compares hashes, so that the time it takes tells nothing about the token.
func (q *Queue) admits(token string) bool {
	sum := sha256.Sum256([]byte(token))
	return q.Open() || subtle.ConstantTimeCompare(sum[:], q.token[:]) == 1
}
