package row

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ParseFilter returns the Filter that text is. Errors say what was expected
// where, in characters from 1. At most 100 conditions may be nested.
func ParseFilter(text string) (*Filter, error) {
	p := filterParser{scanner: filterScanner{text: text}, filter: new(Filter)}
	err := p.next()
	if err == nil {
		p.filter.root, err = p.or(0)
	}
	if err == nil && p.token.is != atEnd {
		err = p.expected("and, or, or the end")
	}
	if err != nil {
		return nil, fmt.Errorf("row: filter: %w", err)
	}
	return p.filter, nil
}

// filterParser goes through a filter a token at a time.
type filterParser struct {
	scanner filterScanner
	token   filterToken // at hand
	filter  *Filter
}

func (p *filterParser) next() (err error) {
	p.token, err = p.scanner.next()
	return err
}

// accept passes the keyword or sign if it is at hand.
func (p *filterParser) accept(word string) (bool, error) {
	if !p.token.isWord(word) {
		return false, nil
	}
	return true, p.next()
}

func (p *filterParser) expect(word string) error {
	if has, err := p.accept(word); has || err != nil {
		return err
	}
	return p.expected(word)
}

// expected says what should be in place of the token at hand.
func (p *filterParser) expected(what string) error {
	return p.scanner.errorf(p.token.at, "want %s, not %s", what, p.token.describe())
}

func (p *filterParser) or(depth int) (*condition, error) {
	return p.list("or", opOr, func() (*condition, error) {
		return p.list("and", opAnd, func() (*condition, error) { return p.not(depth) })
	})
}

// list reads parts with the word between them.
func (p *filterParser) list(word string, op operator, part func() (*condition, error)) (*condition, error) {
	c, err := part()
	if err != nil || !p.token.isWord(word) {
		return c, err
	}
	all := &condition{op: op}
	all.add(c)
	for {
		if more, err := p.accept(word); err != nil || !more {
			return all, err
		}
		if c, err = part(); err != nil {
			return nil, err
		}
		all.add(c)
	}
}

// add adds a part, or its parts where that is the same.
func (c *condition) add(part *condition) {
	if part.op == c.op {
		c.of = append(c.of, part.of...)
		return
	}
	c.of = append(c.of, part)
}

func (p *filterParser) not(depth int) (*condition, error) {
	const deepest = 100
	if depth > deepest {
		return nil, p.scanner.errorf(p.token.at, "more than %d conditions are nested", deepest)
	}
	if is, err := p.accept("not"); err != nil {
		return nil, err
	} else if is {
		c, err := p.not(depth + 1)
		return &condition{op: opNot, of: []*condition{c}}, err
	}
	if is, err := p.accept("("); err != nil {
		return nil, err
	} else if is {
		c, err := p.or(depth + 1)
		if err == nil {
			err = p.expect(")")
		}
		return c, err
	}
	if is, err := p.accept("exists"); err != nil {
		return nil, err
	} else if is {
		name, err := p.name()
		return &condition{op: opExists, name: name}, err
	}
	return p.comparison()
}

// name reads a name and returns its number.
func (p *filterParser) name() (int, error) {
	if p.token.is != aName {
		return 0, p.expected("a name")
	}
	name := p.token.text
	i := slices.Index(p.filter.names, name)
	if i < 0 {
		i = len(p.filter.names)
		p.filter.names = append(p.filter.names, name)
	}
	return i, p.next()
}

// comparisons are the operators that stand between a name and a literal.
var comparisons = map[string]operator{
	"=": opEqual, "!=": opDiffers, "<>": opDiffers, "<": opLess, "<=": opLessEqual, ">": opGreater, ">=": opGreaterEqual,
	"like": opLike, "prefix": opPrefix, "in": opIn,
}

func (p *filterParser) comparison() (*condition, error) {
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	if is, err := p.accept("is"); err != nil {
		return nil, err
	} else if is {
		return p.null(name)
	}
	op, has := comparisons[p.token.word()]
	if !has {
		return nil, p.unknown()
	}
	if err := p.next(); err != nil {
		return nil, err
	}
	c := &condition{op: op, name: name}
	if op == opIn {
		c.literals, err = p.literals()
		return c, err
	}
	l, err := p.literal(op)
	c.literals = []literal{l}
	return c, err
}

// unknown says that there is no comparison where one should be.
func (p *filterParser) unknown() error {
	if p.token.isWord("not") {
		return p.scanner.errorf(p.token.at, "want not in front of the name: not (name in (1, 2)), which is true of rows without it too")
	}
	return p.expected("= != < <= > >= in like prefix or is")
}

// null reads what follows is.
func (p *filterParser) null(name int) (*condition, error) {
	c := &condition{op: opExists, name: name}
	not, err := p.accept("not")
	if err == nil {
		err = p.expect("null")
	}
	if not {
		return c, err
	}
	return &condition{op: opNot, of: []*condition{c}}, err
}

func (p *filterParser) literals() ([]literal, error) {
	if err := p.expect("("); err != nil {
		return nil, err
	}
	var all []literal
	for {
		l, err := p.literal(opIn)
		if err != nil {
			return nil, err
		}
		all = append(all, l)
		more, err := p.accept(",")
		if err != nil {
			return nil, err
		}
		if !more {
			return all, p.expect(")")
		}
	}
}

// literal reads a literal that the operator can have.
func (p *filterParser) literal(op operator) (literal, error) {
	t := p.token
	switch {
	case t.isWord("null"):
		return literal{}, p.scanner.errorf(t.at, "nothing equals null; want name is null, or a literal")
	case t.is != aLiteral:
		return literal{}, p.expected("a literal: 12, 1.5, 'text', true, x'00ff'")
	case op == opLike && t.value.kind != text:
		return literal{}, p.expected("a 'text' with % and _")
	case op == opPrefix && t.value.kind != text && t.value.kind != blob:
		return literal{}, p.expected("'text' or x'00ff'")
	}
	return literal{t.value.operand()}, p.next()
}

// String writes the filter so that [ParseFilter] reads the same from it; two
// filters that are alike but for spelling have the same text.
func (f *Filter) String() string {
	if f.all() {
		return ""
	}
	return string(f.append(nil, f.root))
}

// signs are what operators are written as.
var signs = map[operator]string{
	opEqual: "=", opDiffers: "!=", opLess: "<", opLessEqual: "<=", opGreater: ">", opGreaterEqual: ">=",
	opLike: "like", opPrefix: "prefix",
}

func (f *Filter) append(dst []byte, c *condition) []byte {
	switch c.op {
	case opAnd, opOr:
		return f.appendList(dst, c)
	case opNot:
		return f.appendPart(append(dst, "not "...), c, c.of[0])
	case opExists:
		return appendName(append(dst, "exists "...), f.names[c.name])
	}
	dst = appendName(dst, f.names[c.name])
	if c.op != opIn {
		dst = append(append(append(dst, ' '), signs[c.op]...), ' ')
		return appendLiteral(dst, c.literals[0])
	}
	dst = append(dst, " in ("...)
	for i, l := range c.literals {
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = appendLiteral(dst, l)
	}
	return append(dst, ')')
}

func (f *Filter) appendList(dst []byte, c *condition) []byte {
	between := " and "
	if c.op == opOr {
		between = " or "
	}
	for i, part := range c.of {
		if i > 0 {
			dst = append(dst, between...)
		}
		dst = f.appendPart(dst, c, part)
	}
	return dst
}

// appendPart appends a part of a condition, in parentheses if it is one of
// several parts itself.
func (f *Filter) appendPart(dst []byte, of, part *condition) []byte {
	if part.op != opAnd && part.op != opOr || of.op == opOr && part.op == opAnd {
		return f.append(dst, part)
	}
	return append(f.append(append(dst, '('), part), ')')
}

func appendName(dst []byte, name string) []byte {
	if isBare(name) {
		return append(dst, name...)
	}
	return append(append(append(dst, '"'), strings.ReplaceAll(name, `"`, `""`)...), '"')
}

// isBare reports whether a name needs no quotes.
func isBare(name string) bool { return validName(name) && !keywords[strings.ToLower(name)] }

func appendLiteral(dst []byte, l literal) []byte {
	switch l.kind {
	case text:
		return append(append(append(dst, '\''), strings.ReplaceAll(string(l.text), "'", "''")...), '\'')
	case blob:
		return append(hex.AppendEncode(append(dst, "x'"...), l.text), '\'')
	}
	return l.value().AppendJSON(dst)
}

// filterToken is a word of a filter.
type filterToken struct {
	is    tokenKind
	at    int    // byte it starts at
	text  string // a name without its quotes, else as it stands
	value Value  // of a literal
}

type tokenKind int

const (
	atEnd tokenKind = iota
	aSign           // also a keyword, in lower case
	aName
	aLiteral
)

func (t filterToken) word() string {
	if t.is != aSign {
		return ""
	}
	return t.text
}

func (t filterToken) isWord(word string) bool { return t.is == aSign && t.text == word }

// describe says what the token is, in an error.
func (t filterToken) describe() string {
	if t.is == atEnd {
		return "the end"
	}
	return shorten(t.text, strconv.Quote)
}

// keywords are the words that are no names, unless in quotes.
var keywords = map[string]bool{
	"and": true, "or": true, "not": true, "in": true, "like": true, "prefix": true, "exists": true,
	"is": true, "null": true, "true": true, "false": true,
}

// filterScanner cuts a filter into tokens.
type filterScanner struct {
	text string
	at   int // next byte
}

// errorf is an error about what is at a byte of the text.
func (s *filterScanner) errorf(at int, format string, args ...any) error {
	return fmt.Errorf("character %d: %s", utf8.RuneCountInString(s.text[:at])+1, fmt.Sprintf(format, args...))
}

func (s *filterScanner) next() (filterToken, error) {
	s.at = len(s.text) - len(strings.TrimLeft(s.text[s.at:], " \t\r\n"))
	t := filterToken{at: s.at}
	left := s.text[s.at:]
	switch {
	case left == "":
		return t, nil
	case left[0] == '"':
		return s.quotedName(t)
	case left[0] == '\'':
		text, err := s.quoted('\'')
		t.is, t.text, t.value = aLiteral, s.text[t.at:s.at], StringValue(text)
		return t, err
	case strings.HasPrefix(left, "x'") || strings.HasPrefix(left, "X'"):
		return s.binary(t)
	case isDigit(left[0]) || left[0] == '-' || left[0] == '+' || left[0] == '.':
		return s.number(t)
	case wordLen(left) > 0:
		return s.word(t), nil
	}
	return s.sign(t)
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// wordLen returns how long the name or keyword is that text starts with.
func wordLen(text string) int {
	n := 0
	for n < len(text) && (text[n] == '_' || isDigit(text[n]) || text[n]|0x20 >= 'a' && text[n]|0x20 <= 'z') {
		n++
	}
	return n
}

func (s *filterScanner) word(t filterToken) filterToken {
	s.at += wordLen(s.text[s.at:])
	t.is, t.text = aName, s.text[t.at:s.at]
	if folded := strings.ToLower(t.text); keywords[folded] {
		t.is, t.text = aSign, folded
		switch folded {
		case "true":
			t.is, t.value = aLiteral, Value{kind: boolean, num: 1}
		case "false":
			t.is, t.value = aLiteral, Value{kind: boolean}
		}
	}
	return t
}

func (s *filterScanner) sign(t filterToken) (filterToken, error) {
	for _, sign := range []string{"!=", "<>", "<=", ">=", "=", "<", ">", "(", ")", ","} {
		if strings.HasPrefix(s.text[s.at:], sign) {
			s.at += len(sign)
			t.is, t.text = aSign, sign
			return t, nil
		}
	}
	r, _ := utf8.DecodeRuneInString(s.text[s.at:])
	return t, s.errorf(s.at, "%q is nothing a condition has; other names than letters, digits and _ stand in double quotes", r)
}

// quoted reads what is in quotes, in which two of them are one.
func (s *filterScanner) quoted(quote byte) (string, error) {
	start := s.at
	var text []byte
	for s.at++; s.at < len(s.text); s.at++ {
		c := s.text[s.at]
		if c == quote {
			if s.at+1 == len(s.text) || s.text[s.at+1] != quote {
				s.at++
				return string(text), nil
			}
			s.at++
		}
		text = append(text, c)
	}
	return "", s.errorf(start, "the quote %c is not closed", quote)
}

func (s *filterScanner) quotedName(t filterToken) (filterToken, error) {
	name, err := s.quoted('"')
	if err == nil && (name == "" || len(name) > maxName) {
		err = s.errorf(t.at, "the name has %d bytes, want 1 to %d; a text stands in single quotes", len(name), maxName)
	}
	t.is, t.text = aName, name
	return t, err
}

func (s *filterScanner) binary(t filterToken) (filterToken, error) {
	s.at++
	digits, err := s.quoted('\'')
	if err != nil {
		return t, err
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return t, s.errorf(t.at, "want an even number of hex digits in x'…'")
	}
	t.is, t.text, t.value = aLiteral, s.text[t.at:s.at], BinaryValue(b)
	return t, nil
}

// number reads an INTEGER, or if there is a point or an exponent, a DOUBLE.
func (s *filterScanner) number(t filterToken) (filterToken, error) {
	digits := s.text[s.at:]
	end := 0
	for end < len(digits) {
		c := digits[end]
		signed := end == 0 || digits[end-1]|0x20 == 'e'
		if !isDigit(c) && c != '.' && c|0x20 != 'e' && (!signed || c != '-' && c != '+') {
			break
		}
		end++
	}
	s.at += end
	t.is, t.text = aLiteral, digits[:end]
	if strings.ContainsAny(t.text, ".eE") {
		f, err := strconv.ParseFloat(t.text, 64)
		if err != nil {
			return t, s.errorf(t.at, "%s is no DOUBLE", t.text)
		}
		t.value = DoubleValue(f)
		return t, nil
	}
	n, err := strconv.ParseInt(t.text, 10, 64)
	if err != nil {
		return t, s.errorf(t.at, "%s is no INTEGER of 64 bits", t.text)
	}
	t.value = IntegerValue(n)
	return t, nil
}
