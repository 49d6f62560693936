package rules

import "fmt"

// A field that an event lacks must not decide anything by accident, wherever it stands in an expression. So truth has four
// values: true, false, and two kinds of the type uncertain, which carry the name of the field.
//
//	data.x > 1             x is missing: unsure. Its negation is unsure too.
//	data.x == 1            x is missing: false, softly. It does not equal 1, and its negation is plainly true.
//	true || unsure         true: the field was not needed. The same with the terms exchanged.
//	false && unsure        false, for the same reason.
//	true && unsure         unsure.
//
// A decision that ends unsure or softly false is false and names the field; a filter then stops the event and a drop keeps it.

// missing is the value of a field that is not there, or is null. name is the field as the expression calls it.
type missing struct {
	name string
	null bool // it is there and null: reported only where a value was needed
}

// uncertain is the result of a test that met a missing field. Soft is false whatever the field may be; else it is unknown.
type uncertain struct {
	name string
	soft bool
}

// Fault is a failure of an evaluation, without its place.
type faultError string

func (e faultError) Error() string { return string(e) }

func fault(format string, args ...any) error { return faultError(fmt.Sprintf(format, args...)) }

// isNil says whether v is no value.
func isNil(v any) bool {
	switch v.(type) {
	case nil, missing:
		return true
	}
	return false
}

// nameOf is the name of a missing field, empty for a nil that is no field.
func nameOf(v any) string {
	switch m := v.(type) {
	case missing:
		return m.name
	case uncertain:
		return m.name
	}
	return ""
}

// missed is the result of an operation that lacks one of its values: the first of them that is missing, by name.
func missed(values ...any) any {
	for _, v := range values {
		if m, ok := v.(missing); ok {
			return missing{name: m.name}
		}
	}
	return nil
}

// unsure is the result of a test that lacks one of its values.
func unsure(values ...any) any {
	for _, v := range values {
		if m, ok := v.(missing); ok {
			return uncertain{name: m.name}
		}
	}
	return uncertain{}
}

// truthOf takes a value to one of true, false and uncertain.
func truthOf(v any) (any, error) {
	switch t := v.(type) {
	case bool, uncertain:
		return v, nil
	case nil:
		return uncertain{}, nil
	case missing:
		return uncertain{name: t.name}, nil
	}
	return nil, fault("%s is not true or false", kindOf(v))
}

func opNot(_ *run, a []any) (any, error) {
	v, err := truthOf(a[0])
	switch t := v.(type) {
	case bool:
		return !t, nil
	case uncertain:
		if t.soft {
			return true, nil
		}
	}
	return v, err
}

// opAndLeft stands before the && of the machine: false ends the conjunction there, everything else is kept for opAndRight.
func opAndLeft(r *run, a []any) (any, error) {
	v, err := truthOf(a[1])
	r.terms[a[0].(int)] = v
	return v != false, err
}

// opAndRight joins the right side with the left, which is not plainly false. A plain false wins over any doubt.
func opAndRight(r *run, a []any) (any, error) {
	left := r.terms[a[0].(int)]
	right, err := truthOf(a[1])
	if err != nil || right == false || left == true {
		return right, err
	}
	if right == true {
		return left, nil
	}
	l, m := left.(uncertain), right.(uncertain)
	return uncertain{name: firstName(l, m), soft: l.soft || m.soft}, nil
}

// opOrLeft stands before the || of the machine: true ends the disjunction there.
func opOrLeft(r *run, a []any) (any, error) {
	v, err := truthOf(a[1])
	r.terms[a[0].(int)] = v
	return v == true, err
}

// opOrRight joins the right side with the left, which is not true.
func opOrRight(r *run, a []any) (any, error) {
	left := r.terms[a[0].(int)]
	right, err := truthOf(a[1])
	if err != nil || right == true || left == false {
		return right, err
	}
	if right == false {
		return left, nil
	}
	l, m := left.(uncertain), right.(uncertain)
	return uncertain{name: firstName(l, m), soft: l.soft && m.soft}, nil
}

func firstName(a, b uncertain) string {
	if a.name != "" {
		return a.name
	}
	return b.name
}

// opCond decides between the branches of a conditional: what is unsure takes the else branch and is noted.
func opCond(r *run, a []any) (any, error) {
	v, err := truthOf(a[0])
	if u, ok := v.(uncertain); ok {
		r.met(u.name)
		return false, nil
	}
	return v, err
}

// opQuiet ends a chain with ?. in it: what is missing there is nil and not reported.
func opQuiet(_ *run, a []any) (any, error) {
	if isNil(a[0]) {
		return nil, nil
	}
	return a[0], nil
}

// opPresent is the left side of ??: missing and unsure are nil for it.
func opPresent(_ *run, a []any) (any, error) {
	switch v := a[0].(type) {
	case missing:
		return nil, nil
	case uncertain:
		if v.soft {
			return false, nil
		}
		return nil, nil
	}
	return a[0], nil
}

// settle makes a plain value of a truth that goes into something else than a decision.
func (r *run) settle(v any) any {
	if u, ok := v.(uncertain); ok {
		r.met(u.name)
		return false
	}
	return v
}
