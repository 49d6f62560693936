package event

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

var keyStart = time.Date(2030, 1, 2, 3, 4, 5, 6, time.UTC)

func hashOf(n int) KeyHash { return HashKey([]byte("secret"), "", fmt.Sprint(n)) }

// begun returns a set whose first key has the given number.
func begun(d Dedupe, number uint64) *KeySet {
	s := NewKeySet(d, keyStart)
	s.head, s.next = number, number
	return s
}

// TestKeySetIsAMap compares a set with a list that is searched from its end, around a number whose low half is 0.
func TestKeySetIsAMap(t *testing.T) {
	for _, number := range []uint64{1, 1<<32 - 3000, 4096, 1<<33 - 1} {
		t.Run(fmt.Sprint(number), func(t *testing.T) {
			random := rand.New(rand.NewPCG(number, 1))
			d := Dedupe{Window: 10 * time.Second, MaxKeys: 700}
			s, now := begun(d, number), keyStart
			var all []Key // that were not trimmed
			for range 6000 {
				now = now.Add(time.Duration(random.IntN(40)) * time.Millisecond)
				passed := int64(s.Tick(now) / time.Millisecond)
				h := hashOf(random.IntN(1000))
				want, found := Key{}, false
				for i := len(all) - 1; i >= 0 && !found; i-- {
					if all[i].Hash == h {
						want, found = all[i], passed-all[i].At < 10_000
						break
					}
				}
				got, ok := s.Find(h)
				if ok != found || ok && got != want {
					t.Fatalf("found %v %+v, want %v %+v", ok, got, found, want)
				}
				_, before := s.Bounds()
				if !ok {
					k := Key{Hash: h, At: s.stamp()}
					if random.IntN(2) == 0 {
						k.ID = fmt.Sprint("id-", random.IntN(1e9))
					} else {
						k.Mark = random.Uint64()
					}
					s.Add(k)
					if random.IntN(4) == 0 {
						s.Add(Key{Hash: hashOf(-1 - random.IntN(1000)), At: s.stamp(), ID: "to be taken back"})
						s.Truncate(before)
					} else {
						all = append(all, k)
					}
				}
				s.Trim(random.IntN(3))
				first, next := s.Bounds()
				n := int(next - first)
				if n > 700 {
					t.Fatalf("%d keys", n)
				}
				if (next-1)>>32 != (first-1)>>32 { // one number is no key's
					n--
				}
				all = all[len(all)-n:]
			}
			i := 0
			for _, k := range s.From(0) {
				if k != all[i] {
					t.Fatalf("key %d is %+v, want %+v", i, k, all[i])
				}
				i++
			}
			if i != len(all) || i == 0 {
				t.Errorf("%d keys in order, want %d", i, len(all))
			}
		})
	}
}

func (s *KeySet) count() int {
	n := 0
	for range s.From(0) {
		n++
	}
	return n
}

func TestKeySetCountsWhatItForgetsEarly(t *testing.T) {
	s := begun(Dedupe{Window: time.Minute, MaxKeys: 3}, 1<<32-2)
	for i := range 5 {
		s.Add(Key{Hash: hashOf(i), At: s.stamp()})
	}
	if early := s.Trim(0); early != 2 {
		t.Errorf("%d were forgotten early, want 2", early)
	}
	if _, ok := s.Find(hashOf(1)); ok {
		t.Error("the oldest is still there")
	}
	if _, ok := s.Find(hashOf(2)); !ok {
		t.Error("one too many was forgotten")
	}
	s.Tick(keyStart.Add(time.Minute))
	if early := s.Trim(100); early != 0 || s.count() != 0 || s.used != 0 {
		t.Errorf("%d early, %d left, %d in the table", early, s.count(), s.used)
	}
}

// TestKeySetTime: what passes for a set, look by look at a clock that has no monotonic part.
func TestKeySetTime(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for name, c := range map[string]struct {
		looks []time.Duration // after the start
		want  time.Duration
	}{
		"goes on":                     {[]time.Duration{time.Second, time.Minute}, time.Minute},
		"an hour back":                {[]time.Duration{time.Minute, -time.Hour, -time.Hour + time.Second}, time.Minute + time.Second},
		"a year back and forth":       {[]time.Duration{time.Minute, time.Minute - year, time.Minute}, time.Minute + year},
		"an hour ahead":               {[]time.Duration{time.Hour}, time.Hour},
		"ahead by mistake, then back": {[]time.Duration{year, time.Minute, 2 * time.Minute}, year + time.Minute},
		"beyond what can be counted":  {[]time.Duration{1<<63 - 1, 0, 1<<63 - 1}, 1<<63 - 1},
	} {
		s := begun(Dedupe{Window: time.Hour, MaxKeys: 1}, 1)
		var got time.Duration
		for _, at := range c.looks {
			got = s.Tick(keyStart.Add(at))
		}
		if got != c.want {
			t.Errorf("%s: %v passed, want %v", name, got, c.want)
		}
	}
}

// TestKeySetHeedsTheMonotonicClock: steps of the wall clock do not show within a process.
func TestKeySetHeedsTheMonotonicClock(t *testing.T) {
	start := time.Now()
	s := NewKeySet(Dedupe{Window: time.Hour, MaxKeys: 1}, start)
	if passed := s.Tick(start.Add(time.Minute)); passed != time.Minute {
		t.Errorf("%v passed", passed)
	}
	if start.Round(0) == start {
		t.Skip("this clock has no monotonic part")
	}
	if passed := s.Tick(time.Now().Add(time.Hour)); passed < time.Hour-time.Minute || passed > 2*time.Hour {
		t.Errorf("%v passed", passed)
	}
}

// TestKeySetMemory holds what a key costs: with the id of an event that is a UUID, and without.
func TestKeySetMemory(t *testing.T) {
	for _, c := range []struct {
		id   string
		most int
	}{{"", 48}, {"0196f4a2-7b1c-7d3e-9a55-3f2b8c1d0e4f", 80}} {
		const n = 50_000 // just after the table became larger, when a key costs most
		before := allocated()
		s := NewKeySet(Dedupe{Window: time.Hour, MaxKeys: n}, keyStart)
		for i := range n {
			s.Add(Key{Hash: hashOf(i), At: 1, ID: c.id})
		}
		each := int(allocated()-before) / n
		t.Logf("%d bytes a key with an id of %d", each, len(c.id))
		if each > c.most {
			t.Errorf("a key with an id of %d bytes takes %d bytes, more than %d", len(c.id), each, c.most)
		}
		runtime.KeepAlive(s)
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

func TestHashKeyTellsNamesApart(t *testing.T) {
	seen := map[KeyHash]string{}
	for _, c := range [][3]string{{"s", "", "ab"}, {"s", "a", "b"}, {"s", "ab", ""}, {"t", "", "ab"}, {"s", "", "a"}} {
		h := HashKey([]byte(c[0]), c[1], c[2])
		if seen[h] != "" {
			t.Errorf("%q has the hash of %s", c, seen[h])
		}
		seen[h] = fmt.Sprintf("%q", c)
	}
}

func BenchmarkKeySet(b *testing.B) {
	s := NewKeySet(Dedupe{Window: time.Hour, MaxKeys: 1_000_000}, keyStart)
	b.ReportAllocs()
	for i := range b.N {
		h := hashOf(i)
		if _, ok := s.Find(h); !ok {
			s.Add(Key{Hash: h, At: 1})
		}
		s.Trim(10)
	}
}
