package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"

	"github.com/millrace-run/millrace/event"
)

// limits bound what the sink holds.
type limits struct {
	open  int // files open at once, at least 1
	known int // files in the state, before those that were not used for longest are forgotten
	keep  int // files that stay when some are forgotten
}

// maxOpen leaves six of 256 descriptors: two folders and a file on its way for the sink, a folder and two files for the keeper.
const maxOpen = 250

// Sink appends events to files. Open, Deliver, Tend, Due and Close must not be called at the same time.
type Sink struct {
	place  place
	form   form
	log    *slog.Logger
	clock  event.Clock
	mount  mounter
	limits limits
	keeper *keeper
	inline bool                                       // tests call the keeper themselves
	save   func(context.Context, event.Changes) error // nil before the first Open
	volume volume                                     // nil while the root is not open
	files  map[string]*entry                          // by path relative to the root
	opened []*entry                                   // those that are open
	turn   uint64                                     // counts groups of files that are worked on together
	room   [][]byte                                   // memory for the lines of the next batch
	rotation
}

// Open takes the committed state and cuts every file back to its settled length. A file that cannot be cut now is cut before
// its next write, so that one bad file does not stop the others; Open fails only if the state cannot be read or saved, or when
// ctx ends. save is kept until the next Open. Packing what was closed goes on beside the deliveries until Close, or until ctx ends.
func (s *Sink) Open(ctx context.Context, state map[string][]byte, save func(context.Context, event.Changes) error) error {
	s.detach()
	s.keeper.open(save)
	s.save, s.files = nil, map[string]*entry{}
	s.moving, s.rides, s.due, s.mixed, s.doubt, s.uncut = nil, event.Changes{}, 0, false, nil, false
	_, s.ended = state[endedKey]
	outside := map[string]mark{}
	for _, key := range slices.Sorted(maps.Keys(state)) {
		if err := s.remember(key, state[key], outside); err != nil {
			return fmt.Errorf("the state of %s cannot be read: %w", key, err)
		}
	}
	changes := event.Changes{}
	if s.ended {
		changes[endedKey] = nil
	}
	err := s.recoverFiles(ctx, changes)
	if err == nil {
		err = s.release(ctx, outside, changes)
	}
	if err == nil && len(changes) > 0 {
		err = save(ctx, changes)
	}
	if err != nil {
		return err
	}
	s.save = save
	s.finishMoves(ctx)
	if !s.inline && (s.closes || len(s.moving) > 0 || len(s.keeper.sorted()) > 0) {
		s.keeper.start(ctx)
	}
	return nil
}

// remember takes up one value of the state.
func (s *Sink) remember(key string, value []byte, outside map[string]mark) error {
	switch {
	case isClosedKey(key):
		return s.rememberClosed(key, value)
	case key == lastKey:
		last, err := strconv.ParseInt(string(value), 10, 64)
		s.lastStamp = max(s.lastStamp, last)
		return err
	case !filepath.IsAbs(key): // endedKey, or of a sink of another type that had the name
		return nil
	}
	m, err := decodeMark(value)
	if err != nil {
		return err
	}
	name, err := filepath.Rel(s.place.root, key)
	if err != nil || !filepath.IsLocal(name) || !s.closes && s.left(name) {
		outside[key] = m
		return nil
	}
	m.Began, m.Wrote = min(m.Began, s.now()), min(m.Wrote, s.now()) // the clock was set back
	e := newEntry(name, m)
	e.dirty = !s.ended
	s.files[name] = e
	s.mixed = s.mixed || s.strange(e)
	if at := s.dueOf(e); at < math.MaxInt64 {
		s.expect(max(at, 1))
	}
	return nil
}

// left says that no event goes to a path any more, because the setting is another.
func (s *Sink) left(name string) bool { return !s.place.templated && name != s.place.fixed }

func (s *Sink) rememberClosed(key string, value []byte) error {
	c, err := decodeClosed(value)
	if err != nil {
		return err
	}
	switch {
	case s.keeper.has(key): // what it knows is newer than the state
	case c.From != "":
		s.moving = append(s.moving, c)
	default:
		c.resting.Store(!c.pending())
		s.keeper.add(c)
	}
	return nil
}

// Finish notes that everything answered is committed, and nothing is written any more until the sink is opened again. So what the
// next Open finds behind a settled length is somebody else's. Where a file could not be cut back this cannot be said, and is not.
func (s *Sink) Finish(ctx context.Context) error {
	if s.save == nil || s.doubt != nil || s.uncut || len(s.files) == 0 {
		return nil
	}
	for _, e := range s.files {
		if e.dirty && e.lost == "" {
			return nil
		}
	}
	return s.save(ctx, event.Changes{endedKey: []byte("1")})
}

// Close closes all files and ends what goes on beside the deliveries. What was answered stays answered; the sink can be opened
// again.
func (s *Sink) Close() error {
	s.keeper.close()
	s.detach()
	s.save = nil
	return nil
}

// recoverFiles cuts what it can, or takes in what others added since the sink ended in order. It makes no folder.
func (s *Sink) recoverFiles(ctx context.Context, changes event.Changes) error {
	if len(s.files) == 0 {
		return nil
	}
	v, err := s.mount(s.place.root, false)
	if err != nil {
		s.log.Warn("files are not cut back yet", "path", s.place.root, "err", err)
		return nil
	}
	s.volume = v
	for _, name := range slices.Sorted(maps.Keys(s.files)) {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		s.examineOnce(v, s.files[name], changes)
	}
	return nil
}

// examineOnce examines a file that was not looked at since the start and leaves it closed.
func (s *Sink) examineOnce(v volume, e *entry, changes event.Changes) {
	grown, err := e.examine(v)
	if err == nil && grown {
		err = e.takeIn()
	}
	if err != nil {
		s.log.Warn("a file is not recovered yet", "path", s.absolute(e.at), "err", err)
	} else if grown && e.lost == "" {
		s.report(e, true)
		changes[s.absolute(e.path)] = e.encode()
	}
	if e.lost != "" {
		s.report(e, false)
	}
	e.shut()
}

// release cuts files of paths that the setting had before it was changed, and forgets them: nothing is written there any more.
func (s *Sink) release(ctx context.Context, outside map[string]mark, changes event.Changes) error {
	for _, key := range slices.Sorted(maps.Keys(outside)) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := s.cutOutside(key, outside[key]); err != nil {
			s.log.Warn("a file of an earlier path is not cut back yet", "path", key, "err", err)
			s.uncut = true
			continue
		}
		changes[key] = nil
	}
	return nil
}

func (s *Sink) cutOutside(key string, m mark) error {
	name, err := filepath.Rel(m.Root, key)
	if err != nil || !filepath.IsLocal(name) {
		return errors.Join(err, errors.New("it is not below its root"))
	}
	v, err := s.mount(m.Root, false)
	if isMissing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	e := newEntry(name, m)
	e.dirty = !s.ended
	grown, err := e.examine(v)
	if grown && m.Form == formatJSON {
		_ = e.lose("somebody added to it")
	}
	if e.lost != "" {
		s.log.Warn("a file of an earlier path is left alone", "path", key, "err", e.lost)
		s.keeper.counts.left.Add(1)
	}
	if end := endOf(m.Form); end != "" && err == nil && e.file != nil && e.Length > 0 {
		if _, err = e.file.WriteAt([]byte(end), e.Length); err == nil {
			err = e.file.Sync()
		}
	}
	e.shut()
	return errors.Join(err, v.close())
}

// group is the events of a batch that go into one file.
type group struct {
	path    string
	members []int // indexes in the batch
	lines   []byte
	entry   *entry
	err     error
}

// Deliver appends each event to its file, the events of a file with one write, and syncs the files before it answers. An event
// whose path cannot be made is Permanent by itself. A file that fails fails all its events as Unavailable, and is cut back to
// what it was. When ctx ends, files that were not begun are Unavailable; a write or sync that runs is waited for.
func (s *Sink) Deliver(ctx context.Context, batch []event.Delivery) event.Settling {
	out := event.Settling{Verdicts: make([]error, len(batch)), Changes: event.Changes{}}
	groups := s.divide(batch, out.Verdicts)
	defer s.keepRoom(groups)
	err := s.attach()
	if err == nil {
		err = s.keeper.crowded(s.limits.known)
	}
	if err == nil {
		s.closeRipe(ctx, groups)
		err = s.doubt
	}
	if err != nil {
		for _, g := range groups {
			g.err = event.Unavailable(err)
		}
	} else {
		for some := range slices.Chunk(groups, s.limits.open) {
			s.write(ctx, some, out.Changes)
		}
	}
	for _, g := range groups {
		for _, i := range g.members {
			out.Verdicts[i] = g.err
		}
	}
	if len(out.Changes) > 0 {
		s.forget(out.Changes)
		maps.Copy(out.Changes, s.rides)
		clear(s.rides)
	}
	return out
}

// divide sorts the batch by file, in the order in which files first appear.
func (s *Sink) divide(batch []event.Delivery, verdicts []error) []*group {
	d := division{sink: s, size: len(batch), byText: map[string]*group{}, byPath: map[string]*group{}}
	for i := range batch {
		g, err := d.groupOf(batch[i].Event)
		if err == nil {
			g.lines, err = s.form.append(g.lines, batch[i].Event)
		}
		if err != nil {
			verdicts[i] = event.Permanent(err)
			continue
		}
		g.members = append(g.members, i)
	}
	return slices.DeleteFunc(d.groups, func(g *group) bool { return len(g.members) == 0 })
}

// division finds the group of an event. Most follow another of the same file.
type division struct {
	sink   *Sink
	size   int // of the batch
	groups []*group
	text   string // of the last event
	last   *group
	byText map[string]*group // by rendered template
	byPath map[string]*group
}

func (d *division) groupOf(ev *event.Event) (*group, error) {
	text, err := d.sink.place.render(ev)
	if err != nil {
		return nil, err
	}
	if d.last != nil && text == d.text {
		return d.last, nil
	}
	g := d.byText[text]
	if g == nil {
		name, err := d.sink.place.name(text)
		if err != nil {
			return nil, err
		}
		g = d.named(name)
		d.byText[text] = g
	}
	d.text, d.last = text, g
	return g, nil
}

func (d *division) named(name string) *group {
	g := d.byPath[name]
	if g == nil {
		g = &group{path: name, lines: d.sink.takeRoom()}
		if len(d.groups) == 0 {
			g.members = make([]int, 0, d.size)
		}
		d.byPath[name] = g
		d.groups = append(d.groups, g)
	}
	return g
}

// maxRoom bounds the memory that is kept between batches: about what a batch has at most.
const maxRoom = 2 << 20

// takeRoom returns memory for the lines of a file.
func (s *Sink) takeRoom() []byte {
	if len(s.room) == 0 {
		return nil
	}
	room := s.room[len(s.room)-1]
	s.room = s.room[:len(s.room)-1]
	return room[:0]
}

// keepRoom keeps the memory of the lines for the next batch. Nobody holds on to lines once they are written.
func (s *Sink) keepRoom(groups []*group) {
	s.room = s.room[:0]
	size := 0
	for _, g := range slices.Backward(groups) {
		if size += cap(g.lines); size <= maxRoom {
			s.room = append(s.room, g.lines)
		}
	}
}

// attach opens the root, making it if it is missing, unless it is open and still the folder at its path.
func (s *Sink) attach() error {
	if s.save == nil {
		return errors.New("the storage sink is not open")
	}
	if s.volume != nil && s.volume.attached() {
		return nil
	}
	s.detach()
	v, err := s.mount(s.place.root, true)
	if err != nil {
		return fmt.Errorf("%s: %w", s.place.root, err)
	}
	s.volume = v
	return nil
}

func (s *Sink) detach() {
	for _, e := range s.opened {
		e.shut()
	}
	s.opened = nil
	if s.volume != nil {
		_ = s.volume.close()
	}
	s.volume = nil
}

// write does what the package comment's table lists, for at most as many files as may be open.
func (s *Sink) write(ctx context.Context, groups []*group, changes event.Changes) {
	s.turn++
	begun := map[string]*entry{}
	for _, g := range groups {
		if g.err = unavailable(context.Cause(ctx)); g.err == nil {
			g.entry, g.err = s.ready(g.path, begun)
		}
	}
	s.commit(ctx, groups, begun)
	for _, g := range groups {
		if g.err == nil {
			g.err = unavailable(context.Cause(ctx))
		}
		if g.err == nil {
			g.err = s.extend(g.entry, g.lines)
		}
		if g.err == nil {
			changes[s.absolute(g.path)] = g.entry.encode()
		}
	}
}

// commit saves where new files begin, before the first byte is written to them.
func (s *Sink) commit(ctx context.Context, groups []*group, begun map[string]*entry) {
	if len(begun) == 0 {
		return
	}
	changes := maps.Clone(s.rides)
	for name, e := range begun {
		changes[s.absolute(name)] = e.encode()
	}
	err := s.save(ctx, changes)
	if err == nil {
		clear(s.rides)
		maps.Copy(s.files, begun)
		return
	}
	for _, g := range groups {
		if e := begun[g.path]; e != nil && g.err == nil {
			g.err = event.Unavailable(fmt.Errorf("%s: its beginning could not be saved: %w", s.absolute(e.at), err))
		}
	}
	for _, e := range begun {
		s.shut(e)
	}
}

// extend writes lines behind the settled length and syncs them. If anything fails the file is cut back at once, or else before
// its next write.
func (s *Sink) extend(e *entry, lines []byte) error {
	lines = s.form.place(lines, e.tail)
	if e.Length == 0 {
		e.Form = s.form.id
	}
	e.dirty = true
	_, err := e.file.WriteAt(lines, e.Length)
	if err == nil {
		err = e.file.Sync()
	}
	if err == nil {
		err = s.inPlace(e)
	}
	if err != nil {
		_ = e.cut() // it stays dirty if that fails too
		return event.Unavailable(fmt.Errorf("%s: %w", s.absolute(e.at), err))
	}
	e.dirty = false
	e.grew(lines)
	if s.closes {
		e.Wrote = s.now()
		e.Began = min(e.Began, e.Wrote) // the clock was set back
		if at := s.dueOf(e); at < math.MaxInt64 {
			s.expect(max(at, 1))
		}
	}
	return nil
}

// inPlace makes sure that what was written is where readers look for it: somebody may have moved or deleted the file meanwhile.
func (s *Sink) inPlace(e *entry) error {
	in, err := s.volume.stat(e.at)
	if err == nil && !e.is(in) {
		err = errors.New("somebody replaced the file while it was written")
	}
	return err
}

// forget drops from the state what was not used for long, or has it closed if files are closed at all. The lines of such a file
// are settled and synced, and the next answer that reaches the state comes after the one that settled them; when the path is used
// again, the file is taken for somebody else's and continued behind its end. A file that does not stand at its own path is kept
// unless it is closed, for its path's file must stay alone.
func (s *Sink) forget(changes event.Changes) {
	if len(s.files) <= s.limits.known {
		return
	}
	var idle []*entry
	for _, e := range s.files {
		_, used := changes[s.absolute(e.path)]
		if !used && (!e.dirty || e.lost != "") && (e.at == e.path || s.closes) {
			idle = append(idle, e)
		}
	}
	slices.SortFunc(idle, func(a, b *entry) int { return cmp.Or(cmp.Compare(a.used, b.used), cmp.Compare(a.path, b.path)) })
	for _, e := range idle[:min(len(idle), len(s.files)-s.limits.keep)] {
		if s.closes && e.Length > 0 && e.lost == "" {
			e.early = true
			s.expect(1)
			continue
		}
		s.shut(e)
		changes[s.absolute(e.path)] = nil
		delete(s.files, e.path)
	}
}

func (s *Sink) absolute(name string) string { return filepath.Join(s.place.root, name) }

func (s *Sink) report(e *entry, grown bool) {
	if grown {
		s.log.Warn("somebody added to a file, it is continued behind that", "path", s.absolute(e.at))
		return
	}
	s.keeper.counts.left.Add(1)
	s.log.Warn("a file is left alone, a new one is begun", "path", s.absolute(e.at), "err", e.lost)
}

// verdict sorts an error of the file system. Usually it says nothing about the event. Where the event chose the path and the path
// itself is what cannot be, no later attempt helps, and the files of other events must not wait for it.
func (s *Sink) verdict(path string, err error) error {
	err = fmt.Errorf("%s: %w", s.absolute(path), err)
	if s.place.templated && isImpossible(err) {
		return event.Permanent(err)
	}
	return event.Unavailable(err)
}

var errNotRegular = errors.New("it is not a regular file")

// isImpossible says that a path leads through a file, to a folder, in a circle, or out of the root.
func isImpossible(err error) bool {
	var number syscall.Errno
	if errors.As(err, &number) {
		return slices.Contains([]syscall.Errno{syscall.ENOTDIR, syscall.EISDIR, syscall.ELOOP, syscall.ENAMETOOLONG}, number)
	}
	var outside *fs.PathError // os.Root's own refusal has no number
	return errors.Is(err, errNotRegular) || errors.As(err, &outside) && !errors.Is(err, fs.ErrClosed)
}

func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return event.Unavailable(err)
}
