package rules

import "github.com/expr-lang/expr/file"

// Text evaluates to text: strings as they are, numbers as in the data, times as RFC 3339, arrays and objects as compact JSON, and
// nothing for nil. number says that the value is a number. Its error is an *Error.
func (x *Expr) Text(in *Input) (text string, number bool, err error) {
	r := x.begin(in)
	defer x.end(r)
	v, err := x.eval(r)
	if err != nil {
		return "", false, err
	}
	if v = r.settle(v); isNil(v) {
		return "", false, nil
	}
	if text, err = r.text(v); err != nil {
		return "", false, x.failure(file.Location{From: 0, To: 1}, err.Error())
	}
	return text, isNumber(v), nil
}
