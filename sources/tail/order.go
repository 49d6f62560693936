package tail

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// kin says whether a path may be that of an earlier or later file of the same log: one is the other with something behind it,
// such as app.log and app.log.1.
func kin(head, path string) bool {
	rest, ok := strings.CutPrefix(path, head)
	return ok && (rest == "" || strings.ContainsRune(".-_~", rune(rest[0])))
}

// stem is a path without the number or date at its end: app.log of app.log.1 and of app.log-20260102.
func stem(path string) string {
	short := strings.TrimRight(path, "0123456789.-_T:Z")
	if short == "" || short == path || strings.HasSuffix(short, "/") {
		return path
	}
	if next := path[len(short)]; next >= '0' && next <= '9' {
		return path // app2 is not app
	}
	return short
}

// arrange makes the files of one log wait for each other when they are first seen: what was written before a rotation is read
// before what was written after it. A file waits for an older one only up to the length that the older one has now, so one
// that goes on growing holds nobody up.
func (e *engine) arrange(now time.Time) {
	if !slices.ContainsFunc(e.files, func(f *file) bool { return f.first }) {
		return
	}
	all := slices.DeleteFunc(slices.Clone(e.files), func(f *file) bool { return f.gone })
	slices.SortStableFunc(all, func(a, b *file) int { return cmp.Compare(stem(a.Path), stem(b.Path)) })
	for len(all) > 0 {
		n := 1
		for n < len(all) && kin(stem(all[0].Path), stem(all[n].Path)) {
			n++
		}
		if n > 1 {
			e.line(all[:n], now)
		}
		all[0].first = false
		all = all[n:]
	}
}

// line puts the files of one log in the order of their age.
func (e *engine) line(family []*file, now time.Time) {
	if !slices.ContainsFunc(family, func(f *file) bool { return f.first }) {
		return
	}
	ages := make(map[*file]info, len(family))
	for _, f := range family {
		i, err := e.statOf(f)
		if err != nil {
			i = f.last // it was renamed since, or cannot be read
		}
		ages[f] = i
	}
	slices.SortStableFunc(family, func(a, b *file) int {
		// The times of files may have ticks: of equal ones, the file that was known before is the older one.
		return cmp.Or(ages[a].changed.Compare(ages[b].changed), cmp.Compare(youth(a), youth(b)), cmp.Compare(b.Path, a.Path))
	})
	for i, f := range family {
		if i > 0 && f.first {
			f.wait, f.waitFor = family[i-1], ages[family[i-1]].size
			f.wait.sure = false // it may have been truncated since its position was told
			e.queue(f.wait)
		}
		f.first = false
	}
}

// youth is 0 for a file of which something was read, 1 for another.
func youth(f *file) int {
	if f.text == "" {
		return 1
	}
	return 0
}

// statOf looks at a file where it is now.
func (e *engine) statOf(f *file) (info, error) {
	if f.handle != nil {
		return f.handle.stat()
	}
	h, err := e.disk.open(f.Path)
	if err != nil {
		return info{}, err
	}
	defer func() { _ = h.Close() }()
	i, err := h.stat()
	if err == nil && i.inode != f.node() {
		err = errMoved
	}
	return i, err
}

// waits says whether a file must not be read yet.
func (e *engine) waits(f *file) bool {
	if w := f.wait; w != nil && !w.gone && (w.on || w.handle != nil) && (!w.sure || w.readTo() < f.waitFor) && !w.yields {
		return true
	}
	f.wait = nil
	return false
}
