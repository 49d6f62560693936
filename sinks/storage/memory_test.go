package storage

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"syscall"
)

// disk is a file system in memory that knows which of its bytes and names would survive a power loss: those that were synced, and
// of the others whatever the loss leaves. Each operation that changes something is a step, which a fault can fail.
type disk struct {
	root  *node
	inode uint64
	fault fault
	steps int
	trace []string
	dead  bool // a crash has begun: nothing works any more
	// gone are inodes of files that were removed for good: the next ones get them again, as in most file systems.
	gone []uint64
}

// fault is what goes wrong at a step.
type fault struct {
	at    int // the step, counted from 1; 0 is never
	times int // how many steps from then on fail
	crash bool
	// applied lets the step happen although it fails: a save that was committed, a folder that was made.
	applied bool
	err     error
}

var errCrash = errors.New("crashed")

// node is a file or a folder.
type node struct {
	inode   uint64
	folder  bool
	data    []byte
	dirty   []bool // of data: written since the last sync
	durable []byte
	names   map[string]*node
	kept    map[string]*node // names that were synced
	renamed []renaming       // since then
}

// renaming is a change of two names in one folder, which a loss of power leaves done or not done.
type renaming struct{ from, to string }

func newDisk() *disk {
	d := &disk{}
	d.root = d.newNode(true)
	return d
}

func (d *disk) newNode(folder bool) *node {
	d.inode++
	n := &node{inode: d.inode, folder: folder}
	if last := len(d.gone) - 1; last >= 0 && !folder {
		n.inode, d.gone = d.gone[last], d.gone[:last]
	}
	if folder {
		n.names, n.kept = map[string]*node{}, map[string]*node{}
	}
	return n
}

// step counts an operation and says whether it must fail, and whether it happens nevertheless.
func (d *disk) step(what string) (happens bool, err error) {
	if d.dead {
		return false, errCrash
	}
	d.steps++
	d.trace = append(d.trace, what)
	if d.fault.at == 0 || d.steps < d.fault.at || d.steps >= d.fault.at+max(1, d.fault.times) {
		return true, nil
	}
	if d.fault.crash {
		d.dead = true
		return d.fault.applied, errCrash
	}
	return d.fault.applied, d.fault.err
}

// restart is what a new process finds. With power lost, names and bytes that were not synced are gone; r, if not nil, decides
// for each of them.
func (d *disk) restart(power bool, r *rand.Rand) {
	d.dead, d.fault, d.steps, d.trace = false, fault{}, 0, nil
	if power {
		d.root.lose(r)
	}
}

func (n *node) lose(r *rand.Rand) {
	if !n.folder {
		n.loseBytes(r)
		return
	}
	names, sure := maps.Clone(n.kept), map[string]bool{}
	for _, pair := range n.renamed {
		sure[pair.from], sure[pair.to] = true, true
		if r != nil && names[pair.from] != nil && r.IntN(2) == 0 {
			names[pair.to] = names[pair.from]
			delete(names, pair.from)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.names)) {
		if !sure[name] && names[name] != n.names[name] && r != nil && r.IntN(2) == 0 {
			names[name] = n.names[name]
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n.kept)) {
		if !sure[name] && n.names[name] == nil && r != nil && r.IntN(2) == 0 {
			delete(names, name)
		}
	}
	n.renamed = nil
	n.names, n.kept = names, maps.Clone(names)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		names[name].lose(r)
	}
}

func (n *node) loseBytes(r *rand.Rand) {
	data := bytes.Clone(n.durable)
	if r != nil && r.IntN(2) == 0 { // the new size came through
		data = append(data, make([]byte, max(0, len(n.data)-len(data)))...)[:len(n.data)]
	}
	for i := range data {
		if r != nil && i < len(n.data) && n.dirty[i] && r.IntN(2) == 0 {
			data[i] = n.data[i]
		}
	}
	n.data, n.durable, n.dirty = data, bytes.Clone(data), make([]bool, len(data))
}

func (d *disk) mount(folder string, create bool) (volume, error) {
	if d.dead {
		return nil, errCrash
	}
	return &view{d}, nil
}

// find returns the node that a name leads to.
func (d *disk) find(name string) (*node, error) {
	n := d.root
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if !n.folder {
			return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOTDIR}
		}
		if n = n.names[part]; n == nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOENT}
		}
	}
	return n, nil
}

// put sets a file's content as somebody else would, durably.
func (d *disk) put(name, content string) {
	n, err := d.find(name)
	if err != nil {
		at := d.root
		for part := range strings.SplitSeq(path.Dir(name), "/") {
			if part == "." {
				break
			}
			if at.names[part] == nil {
				at.names[part] = d.newNode(true)
				at.kept[part] = at.names[part]
			}
			at = at.names[part]
		}
		n = d.newNode(false)
		at.names[path.Base(name)], at.kept[path.Base(name)] = n, n
	}
	n.data, n.durable, n.dirty = []byte(content), []byte(content), make([]bool, len(content))
}

// take takes a name away, durably; move gives the file another one.
func (d *disk) take(name string) *node {
	parent, err := d.find(path.Dir(name))
	if err != nil {
		return nil
	}
	n := parent.names[path.Base(name)]
	delete(parent.names, path.Base(name))
	delete(parent.kept, path.Base(name))
	return n
}

func (d *disk) move(from, to string) {
	parent, err := d.find(path.Dir(to))
	n := d.take(from)
	if err != nil || n == nil {
		panic(fmt.Sprint("cannot move ", from))
	}
	parent.names[path.Base(to)], parent.kept[path.Base(to)] = n, n
}

// files returns the content of every file by path.
func (d *disk) files() map[string]string {
	all := map[string]string{}
	d.root.walk("", all)
	return all
}

func (n *node) walk(at string, into map[string]string) {
	if !n.folder {
		into[at] = string(n.data)
		return
	}
	for name, child := range n.names {
		child.walk(path.Join(at, name), into)
	}
}

// view is the disk as a volume.
type view struct{ *disk }

func (v *view) open(name string) (file, error) {
	if v.dead {
		return nil, errCrash
	}
	n, err := v.find(name)
	if err != nil {
		return nil, err
	}
	if n.folder {
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	}
	return &handle{v.disk, n, name}, nil
}

func (v *view) enter(name, what string, folder bool) (*node, error) {
	if v.dead {
		return nil, errCrash
	}
	parent, err := v.find(path.Dir(name))
	if err != nil {
		return nil, err
	}
	if !parent.folder {
		return nil, &fs.PathError{Op: what, Path: name, Err: syscall.ENOTDIR}
	}
	if parent.names[path.Base(name)] != nil || name == "." {
		return nil, &fs.PathError{Op: what, Path: name, Err: syscall.EEXIST}
	}
	happens, err := v.step(what + " " + name)
	if !happens {
		return nil, err
	}
	n := v.newNode(folder)
	parent.names[path.Base(name)] = n
	return n, err
}

func (v *view) create(name string) (file, error) {
	n, err := v.enter(name, "create", false)
	if err != nil {
		return nil, err
	}
	return &handle{v.disk, n, name}, nil
}

func (v *view) mkdir(name string) error {
	_, err := v.enter(name, "mkdir", true)
	return err
}

func (v *view) stat(name string) (info, error) {
	if v.dead {
		return info{}, errCrash
	}
	n, err := v.find(name)
	if err != nil {
		return info{}, err
	}
	return n.info(), nil
}

func (v *view) syncFolder(name string) error {
	happens, err := v.step("sync folder " + name)
	if !happens {
		return err
	}
	n, findErr := v.find(name)
	if findErr != nil {
		return findErr
	}
	for _, lost := range n.kept {
		if !lost.folder && !slices.Contains(slices.Collect(maps.Values(n.names)), lost) {
			v.gone = append(v.gone, lost.inode)
		}
	}
	n.kept, n.renamed = maps.Clone(n.names), nil
	return err
}

// remove and rename change names in one step; both folders have to be synced before that is sure to last.
func (v *view) remove(name string) error {
	if v.dead {
		return errCrash
	}
	if _, err := v.find(name); err != nil {
		return err
	}
	happens, err := v.step("remove " + name)
	if happens {
		parent, _ := v.find(path.Dir(name))
		delete(parent.names, path.Base(name))
	}
	return err
}

func (v *view) rename(from, to string) error {
	if v.dead {
		return errCrash
	}
	n, err := v.find(from)
	if err != nil {
		return err
	}
	if _, err := v.find(to); err == nil {
		panic("a rename takes the place of " + to)
	}
	happens, err := v.step("rename " + from)
	if happens {
		old, _ := v.find(path.Dir(from))
		delete(old.names, path.Base(from))
		parent, _ := v.find(path.Dir(to))
		parent.names[path.Base(to)] = n
		if parent != old {
			panic("a rename leads into another folder")
		}
		parent.renamed = append(parent.renamed, renaming{path.Base(from), path.Base(to)})
	}
	return err
}

func (v *view) attached() bool { return true }
func (v *view) close() error   { return nil }

func (n *node) info() info {
	return info{dev: 7, ino: n.inode, size: int64(len(n.data)), regular: !n.folder}
}

// handle is an open file.
type handle struct {
	disk *disk
	node *node
	name string
}

func (h *handle) info() (info, error) {
	if h.disk.dead {
		return info{}, errCrash
	}
	return h.node.info(), nil
}

func (h *handle) ReadAt(p []byte, off int64) (int, error) {
	if h.disk.dead {
		return 0, errCrash
	}
	n := copy(p, h.node.data[min(off, int64(len(h.node.data))):])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt writes half of p where it fails, and all of it where it happens nevertheless.
func (h *handle) WriteAt(p []byte, off int64) (int, error) {
	if h.disk.dead {
		return 0, errCrash
	}
	happens, err := h.disk.step("write " + h.name)
	if !happens {
		p = p[:len(p)/2]
	}
	if grow := int(off) + len(p) - len(h.node.data); grow > 0 {
		h.node.data = append(h.node.data, make([]byte, grow)...)
		h.node.dirty = append(h.node.dirty, make([]bool, grow)...)
	}
	for i, c := range p {
		h.node.data[int(off)+i], h.node.dirty[int(off)+i] = c, true
	}
	return len(p), err
}

func (h *handle) Truncate(size int64) error {
	happens, err := h.disk.step("truncate " + h.name)
	if !happens {
		return err
	}
	if size > int64(len(h.node.data)) {
		panic("a file is made longer by a cut")
	}
	h.node.data, h.node.dirty = h.node.data[:size], h.node.dirty[:size]
	return err
}

// Sync that fails forgets what was dirty without writing it, as Linux may: a second sync succeeds and has lost the bytes.
func (h *handle) Sync() error {
	happens, err := h.disk.step("sync " + h.name)
	if h.disk.dead && !happens {
		return err
	}
	n := h.node
	durable := make([]byte, len(n.data))
	copy(durable, n.durable)
	for i := range durable {
		if n.dirty[i] && happens {
			durable[i] = n.data[i]
		}
	}
	n.dirty = make([]bool, len(n.data))
	if happens {
		n.durable = durable
	}
	return err
}

func (h *handle) Close() error { return nil }
