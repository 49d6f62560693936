package rules

import (
	"math"
	"math/big"
	"math/bits"
	"strconv"
	"strings"
)

// Numbers are int64 where they are whole and fit, decimal where they are exact otherwise, and float64 where a result is not
// exact (a third, a root). Sums, differences and products of what data and literals hold are exact: a cent is not lost.

// decimal is an exact number. It prints as its text, which is the text of the data if it came from there. Its value is
// coef·10^exp when small is set; it has more than 18 digits or a far exponent otherwise.
type decimal struct {
	text  string
	coef  int64
	exp   int32
	small bool
}

// Bounds of exact arithmetic. Beyond them results are float64, so that no number in an event can make a sum expensive.
const (
	maxDigits   = 60
	maxExponent = 60
)

// numberOf is the value of the text of a JSON number.
func numberOf(text string) any {
	if n, ok := wholeOf(text); ok {
		return n
	}
	d := decimal{text: text}
	d.coef, d.exp, d.small = smallOf(text)
	return d
}

// wholeOf reads a plain integer that fits and prints as it was written: not -0, no point, no exponent. It makes no garbage of what
// is none, as strconv would.
func wholeOf(text string) (int64, bool) {
	neg := len(text) > 0 && text[0] == '-'
	n, i := int64(0), 0
	if neg {
		i = 1
	}
	if i == len(text) || len(text)-i > 19 || neg && text[i] == '0' || text[i] == '0' && len(text) > i+1 {
		return 0, false
	}
	for ; i < len(text); i++ {
		c := text[i]
		if c < '0' || c > '9' || n < (math.MinInt64+int64(c-'0'))/10 {
			return 0, false
		}
		n = n*10 - int64(c-'0') // below zero there is room for one more
	}
	if !neg && n == math.MinInt64 {
		return 0, false
	}
	if neg {
		return n, true
	}
	return -n, true
}

// smallOf reads a number of at most 18 digits.
func smallOf(text string) (coef int64, exp int32, ok bool) {
	i, digits, point := 0, 0, int32(0)
	neg := text[0] == '-'
	if neg {
		i++
	}
	for ; i < len(text); i++ {
		switch c := text[i]; {
		case c == '.':
			point = 1
		case c >= '0' && c <= '9':
			if coef != 0 || c != '0' {
				digits++
			}
			coef = coef*10 + int64(c-'0')
			if exp -= point; digits > 18 {
				return 0, 0, false
			}
		default: // the exponent
			e, err := strconv.ParseInt(text[i+1:], 10, 16)
			if err != nil {
				return 0, 0, false
			}
			exp += int32(e)
			i = len(text)
		}
	}
	if neg {
		coef = -coef
	}
	return coef, exp, true
}

// isNumber says whether v is one of the kinds of numbers.
func isNumber(v any) bool {
	switch v.(type) {
	case int64, decimal, float64:
		return true
	}
	return false
}

// numberText is how a number prints, which is always a JSON number.
func numberText(v any) string {
	switch n := v.(type) {
	case int64:
		return strconv.FormatInt(n, 10)
	case decimal:
		return n.text
	case float64:
		return floatText(n)
	}
	return ""
}

// floatText is the shortest text that means f, with an exponent only where it is far from 1.
func floatText(f float64) string {
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	return strconv.FormatFloat(f, 'f', -1, 64)
}

// parseDecimal reads a number as a person writes it: JSON's form, or with a plus or space around it. It refuses the forms that
// only programs write (hex, underscores, Inf).
func parseDecimal(s string) (any, bool) {
	s = strings.TrimPrefix(strings.TrimSpace(s), "+")
	if len(s) > 1000 {
		return nil, false
	}
	if end, ok := skipNumber([]byte(s), 0); !ok || end != len(s) {
		return nil, false
	}
	return numberOf(s), true
}

func toFloat(v any) float64 {
	switch n := v.(type) {
	case int64:
		return float64(n)
	case decimal:
		f, _ := strconv.ParseFloat(n.text, 64) // out of range is ±Inf, which finite refuses
		return f
	case float64:
		return n
	}
	return math.NaN()
}

// finite is f as a number. JSON knows neither infinity nor NaN, so they are errors here.
func finite(f float64) (any, error) {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return nil, fault("the result is out of the range of numbers")
	}
	return f, nil
}

// compareNumbers is exact for numbers of any length.
func compareNumbers(a, b any) int {
	x, okx := a.(int64)
	y, oky := b.(int64)
	if okx && oky {
		return compareInts(x, y)
	}
	if c, ok := compareSmall(a, b); ok {
		return c
	}
	return digitsOf(numberText(a)).compare(digitsOf(numberText(b)))
}

func compareInts(x, y int64) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// compareSmall compares coefficients on a common scale if that takes 64 bits only.
func compareSmall(a, b any) (int, bool) {
	ca, ea, ok := parts(a)
	if !ok {
		return 0, false
	}
	cb, eb, ok := parts(b)
	if !ok {
		return 0, false
	}
	switch {
	case ea > eb:
		ca, ok = scaleUp(ca, ea-eb)
	case eb > ea:
		cb, ok = scaleUp(cb, eb-ea)
	}
	return compareInts(ca, cb), ok
}

func parts(v any) (coef int64, exp int32, ok bool) {
	switch n := v.(type) {
	case int64:
		return n, 0, true
	case decimal:
		return n.coef, n.exp, n.small
	}
	return 0, 0, false
}

// scaleUp is c·10^by if that fits.
func scaleUp(c int64, by int32) (int64, bool) {
	if by > 18 {
		return 0, c == 0
	}
	factor := uint64(1)
	for range by {
		factor *= 10
	}
	neg := c < 0
	u := uint64(c)
	if neg {
		u = -u
	}
	hi, lo := bits.Mul64(u, factor)
	if hi != 0 || lo > math.MaxInt64 {
		return 0, false
	}
	if neg {
		return -int64(lo), true
	}
	return int64(lo), true
}

// digits is a number as ±0.d·10^point, where d neither begins nor ends with a zero. Zero has no digits.
type digits struct {
	neg   bool
	d     string
	point int64
}

func digitsOf(text string) digits {
	var n digits
	if text[0] == '-' {
		n.neg, text = true, text[1:]
	}
	mantissa, exponent := text, ""
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		mantissa, exponent = text[:i], text[i+1:]
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	all := whole + fraction
	n.d = strings.TrimLeft(all, "0")
	n.point = int64(len(whole) - (len(all) - len(n.d)))
	if exponent != "" {
		e, _ := strconv.ParseInt(exponent, 10, 48) // saturates far beyond every text that can differ otherwise
		n.point += e
	}
	if n.d = strings.TrimRight(n.d, "0"); n.d == "" {
		return digits{}
	}
	return n
}

func (n digits) compare(m digits) int {
	if n.neg != m.neg || n.d == "" || m.d == "" {
		return compareInts(n.sign(), m.sign())
	}
	c := compareInts(n.point, m.point)
	if c == 0 {
		c = strings.Compare(n.d, m.d)
	}
	if n.neg {
		return -c
	}
	return c
}

func (n digits) sign() int64 {
	switch {
	case n.d == "":
		return 0
	case n.neg:
		return -1
	}
	return 1
}

// exact is the value as c·10^exp, if it is exact and within the bounds.
func exact(v any) (c *big.Int, exp int, ok bool) {
	switch n := v.(type) {
	case int64:
		return big.NewInt(n), 0, true
	case decimal:
		if n.small {
			return big.NewInt(n.coef), int(n.exp), n.exp <= maxExponent && n.exp >= -maxExponent
		}
		d := digitsOf(n.text)
		exp := d.point - int64(len(d.d))
		if d.d == "" || len(d.d) > maxDigits || exp > maxExponent || exp < -maxExponent {
			return new(big.Int), 0, d.d == ""
		}
		c, _ := new(big.Int).SetString(d.d, 10)
		if d.neg {
			c.Neg(c)
		}
		return c, int(exp), true
	}
	return nil, 0, false
}

// exactBoth brings two exact numbers onto one scale.
func exactBoth(a, b any) (x, y *big.Int, exp int, ok bool) {
	x, ex, okx := exact(a)
	y, ey, oky := exact(b)
	if !okx || !oky {
		return nil, nil, 0, false
	}
	exp = min(ex, ey)
	return x.Mul(x, power10(ex-exp)), y.Mul(y, power10(ey-exp)), exp, true
}

func power10(n int) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil) }

// number is c·10^exp in its shortest form.
func makeNumber(c *big.Int, exp int) (any, error) {
	if c.Sign() == 0 {
		return int64(0), nil
	}
	if c.IsInt64() && exp == 0 {
		return c.Int64(), nil
	}
	d := digitsOf(c.String())
	e := int(d.point) - len(d.d) + exp // of the last digit that is not zero
	if len(d.d) > maxDigits || e > maxExponent || e < -maxExponent {
		f, _ := strconv.ParseFloat(c.String()+"e"+strconv.Itoa(exp), 64)
		return finite(f)
	}
	return numberOf(plainText(d.neg, d.d, e)), nil
}

// plainText writes digits whose last stands at 10^e, without an exponent.
func plainText(neg bool, d string, e int) string {
	switch {
	case e >= 0:
		d += strings.Repeat("0", e)
	case -e < len(d):
		d = d[:len(d)+e] + "." + d[len(d)+e:]
	default:
		d = "0." + strings.Repeat("0", -e-len(d)) + d
	}
	if neg {
		return "-" + d
	}
	return d
}

func addNumbers(a, b any) (any, error) {
	x, okx := a.(int64)
	y, oky := b.(int64)
	if sum := x + y; okx && oky && (sum > x) == (y > 0) {
		return sum, nil
	}
	if x, y, exp, ok := exactBoth(a, b); ok {
		return makeNumber(x.Add(x, y), exp)
	}
	return finite(toFloat(a) + toFloat(b))
}

func subNumbers(a, b any) (any, error) {
	x, okx := a.(int64)
	y, oky := b.(int64)
	if diff := x - y; okx && oky && (diff < x) == (y > 0) {
		return diff, nil
	}
	if x, y, exp, ok := exactBoth(a, b); ok {
		return makeNumber(x.Sub(x, y), exp)
	}
	return finite(toFloat(a) - toFloat(b))
}

func mulNumbers(a, b any) (any, error) {
	x, ex, okx := exact(a)
	y, ey, oky := exact(b)
	if okx && oky {
		return makeNumber(x.Mul(x, y), ex+ey)
	}
	return finite(toFloat(a) * toFloat(b))
}

// quotientPlaces is how many decimal places a quotient may have to be exact.
const quotientPlaces = 20

func divNumbers(a, b any) (any, error) {
	if compareNumbers(b, int64(0)) == 0 {
		return nil, fault("division by zero")
	}
	if x, y, _, ok := exactBoth(a, b); ok {
		q, rest := new(big.Int).QuoRem(x.Mul(x, power10(quotientPlaces)), y, new(big.Int))
		if rest.Sign() == 0 {
			return makeNumber(q, -quotientPlaces)
		}
	}
	return finite(toFloat(a) / toFloat(b))
}

// modNumbers is the rest of a division of whole numbers, with the sign of a.
func modNumbers(a, b any) (any, error) {
	if compareNumbers(b, int64(0)) == 0 {
		return nil, fault("division by zero")
	}
	x, okx := wholeBig(a)
	y, oky := wholeBig(b)
	if !okx || !oky {
		return nil, fault("%% needs whole numbers")
	}
	return makeNumber(x.Rem(x, y), 0)
}

func powNumbers(a, b any) (any, error) {
	x, okx := a.(int64)
	y, oky := b.(int64)
	if okx && oky && y >= 0 && y <= 200 {
		if base := big.NewInt(x); base.BitLen()*int(y) <= 200 {
			return makeNumber(base.Exp(base, big.NewInt(y), nil), 0)
		}
	}
	return finite(math.Pow(toFloat(a), toFloat(b)))
}

func negNumber(v any) (any, error) { return subNumbers(int64(0), v) }

// wholeBig is the value of a whole number.
func wholeBig(v any) (*big.Int, bool) {
	if f, ok := v.(float64); ok {
		if f != math.Trunc(f) {
			return nil, false
		}
		v = numberOf(floatText(f))
	}
	c, exp, ok := exact(v)
	if !ok {
		return nil, false
	}
	if exp >= 0 {
		return c.Mul(c, power10(exp)), true
	}
	q, rest := new(big.Int).QuoRem(c, power10(-exp), new(big.Int))
	return q, rest.Sign() == 0
}

// toIndex is a whole number that fits an int64.
func toIndex(v any) (int64, bool) {
	if n, ok := v.(int64); ok {
		return n, true
	}
	if !isNumber(v) {
		return 0, false
	}
	c, ok := wholeBig(v)
	if !ok || !c.IsInt64() {
		return 0, false
	}
	return c.Int64(), true
}

// rounding is a way to a whole number.
type rounding uint8

const (
	truncate rounding = iota // towards zero
	floor
	ceiling
	halfUp // to the nearest, halves away from zero
)

// round takes a number to a whole one.
func round(v any, how rounding) (any, error) {
	if f, ok := v.(float64); ok {
		v = numberOf(floatText(f))
	}
	c, exp, ok := exact(v)
	if !ok {
		return nil, fault("the number is too long to be made whole")
	}
	if exp >= 0 {
		return makeNumber(c, exp)
	}
	unit := power10(-exp)
	q, rest := new(big.Int).QuoRem(c, unit, new(big.Int))
	up := false
	switch how {
	case floor, ceiling:
		up = rest.Sign() != 0 && (rest.Sign() > 0) == (how == ceiling)
	case halfUp:
		twice := new(big.Int).Lsh(new(big.Int).Abs(rest), 1)
		up = twice.Cmp(unit) >= 0
	}
	if up {
		q.Add(q, big.NewInt(int64(c.Sign())))
	}
	return makeNumber(q, 0)
}
