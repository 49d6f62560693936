package rules

import (
	"fmt"

	"github.com/expr-lang/expr/file"
)

// Assignment is one member that set writes: a path such as data.total_cents, subject or ext.region.
type Assignment struct {
	Path  string
	Value *Expr
}

// Identity says that the assignment writes what an event is known by: its id or its source.
func (a Assignment) Identity() bool {
	t, err := parseTarget(a.Path)
	return err == nil && t.attribute != nil && (*t.attribute == attrID || *t.attribute == attrSource)
}

// Filter keeps the events for which x is true.
func Filter(x *Expr) Op {
	return func(s *Subject) (bool, string, error) { return x.Bool(s.in()) }
}

// Drop drops the events for which x is true; with a missing field it drops nothing.
func Drop(x *Expr) Op {
	return func(s *Subject) (bool, string, error) {
		drop, missing, err := x.Bool(s.in())
		if err != nil {
			return false, "", err
		}
		return !drop, missing, nil
	}
}

// Map replaces the data with the value of x as JSON; the content type becomes application/json unless it is JSON already. nil is
// null. missing names the first field that the value needs and the event lacks, where the value has null then.
func Map(x *Expr) Op {
	return func(s *Subject) (bool, string, error) {
		data, missing, err := x.JSON(s.in())
		if err != nil {
			return false, "", err
		}
		s.Event.Data, s.parsed = data, false
		if !s.Event.IsJSON() {
			s.Event.DataContentType = jsonType
		}
		return true, missing, nil
	}
}

// Set writes members in order, each seeing those before; every other byte of the data stays as it was. Its error is an *Error
// about a path, which it names.
//
// In the data nil writes null, and missing names the field that was not there. Objects on the way that are missing or null are
// made; a value of another kind on the way is an error, and so is an element that an array does not have. An event without data
// gets an object. For an attribute nil or an empty text removes it, which is an error for id, source and type; the text must be
// what CloudEvents allows. When an assignment fails the event is as it was before the first.
func Set(assignments []Assignment) (Op, error) {
	targets := make([]target, len(assignments))
	for i, a := range assignments {
		t, err := parseTarget(a.Path)
		if err != nil {
			return nil, err
		}
		if t.whole {
			return nil, pathFault(a.Path, "set writes a member of the data", "map replaces the data as a whole")
		}
		if a.Value == nil {
			return nil, pathFault(a.Path, "it has no value", "")
		}
		targets[i] = t
	}
	return func(s *Subject) (bool, string, error) {
		s.Finish()
		next, first := s.Event, ""
		for i, t := range targets {
			missing, err := t.write(&next, assignments[i].Value)
			if err != nil {
				return false, "", err
			}
			if first == "" {
				first = missing
			}
		}
		s.Event = next
		return true, first, nil
	}, nil
}

// Remove removes members by path; what is not there is no error. The path data removes the data. Its error is an *Error about a
// path, which it names: the attributes id, source and type cannot be removed.
func Remove(paths []string) (Op, error) {
	targets := make([]target, len(paths))
	for i, path := range paths {
		t, err := parseTarget(path)
		if err != nil {
			return nil, err
		}
		if t.attribute != nil && t.attribute.required() {
			return nil, pathFault(path, "an event cannot be without it", "")
		}
		targets[i] = t
	}
	return func(s *Subject) (bool, string, error) {
		s.Finish()
		next := s.Event
		for _, t := range targets {
			if err := t.remove(&next); err != nil {
				return false, "", err
			}
		}
		s.Event = next
		return true, "", nil
	}, nil
}

func pathFault(path, problem, hint string) error {
	return text{src: path, whole: path}.fault(file.Location{To: len([]rune(path))}, fmt.Sprintf("%s: %s", path, problem), hint)
}
