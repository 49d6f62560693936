package s3

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/millrace-run/millrace/event"
)

// pin names an object before it is uploaded, and who its members are. It is in the state until the object is settled.
type pin struct {
	Key     string  `json:"key"`     // in the bucket
	Form    encoder `json:"form"`    // as the end of the key says, whatever the settings are when it is made again
	Parts   bool    `json:"parts"`   // it may have been uploaded in parts
	Members []byte  `json:"members"` // 16 bytes each
	number  uint64
	old     bool // there may have been an upload of it that failed, or that an earlier process made
}

const (
	pinPrefix = "pin/" // and the number, of ten digits
	stateNext = "next" // the number of the next object
)

func (p *pin) name() string { return fmt.Sprintf("%s%010d", pinPrefix, p.number) }

func (p *pin) encode() []byte {
	b, _ := json.Marshal(p) // a struct of strings and bytes always encodes
	return b
}

func decodePin(name string, b []byte) (*pin, error) {
	p := &pin{old: true}
	if err := json.Unmarshal(b, p); err != nil {
		return nil, err
	}
	var err error
	if p.number, err = strconv.ParseUint(strings.TrimPrefix(name, pinPrefix), 10, 64); err != nil {
		return nil, err
	}
	if p.Key == "" || len(p.Members)%len(member{}) != 0 {
		return nil, errors.New("it is not complete")
	}
	return p, nil
}

// readState returns the pins by number, and the number of the next object.
func readState(state map[string][]byte) (pins []*pin, next uint64, err error) {
	for _, name := range slices.Sorted(maps.Keys(state)) {
		if name == stateNext {
			next, err = strconv.ParseUint(string(state[name]), 10, 64)
		} else if strings.HasPrefix(name, pinPrefix) {
			var p *pin
			p, err = decodePin(name, state[name])
			pins = append(pins, p)
		}
		if err != nil {
			return nil, 0, fmt.Errorf("the state of the sink cannot be read, %s: %w", name, err)
		}
	}
	return pins, max(next, 1), nil
}

// claims are the places of pins by the members that they are for, the oldest pin first.
type claims map[member][]*pin

func claimsOf(pins []*pin) claims {
	c := claims{}
	for _, p := range pins {
		for m := range slices.Chunk(p.Members, len(member{})) {
			c[member(m)] = append(c[member(m)], p)
		}
	}
	return c
}

// take returns the pin that a member belongs to and gives it the place, or nil.
func (c claims) take(m member) *pin {
	all := c[m]
	if len(all) == 0 {
		return nil
	}
	c[m] = all[1:]
	return all[0]
}

// strays ends the oldest of the pins that nobody came for, as far as they have more than most members.
func strays(pins []*pin, most int, changes event.Changes) (kept, forgotten []*pin) {
	members := 0
	for _, p := range slices.Backward(pins) {
		members += len(p.Members) / len(member{})
		if members > most {
			changes[p.name()] = nil
			forgotten = append(forgotten, p)
		} else {
			kept = append(kept, p)
		}
	}
	slices.Reverse(kept)
	return kept, forgotten
}
