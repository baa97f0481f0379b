package row

import (
	"encoding/binary"
)

// names numbers the names of cells and remembers what reading them costs: their
// part of a checksum, and which name came after which. Rows of a table are
// alike, so the next name is nearly always the one that came next the last time,
// and recognising it takes one comparison; where a cell is absent now and then
// it is the one before that, which takes two.
//
// Number 0 is no name but the start of a row. The columns of the layout follow
// from number 1 on, then others as they come.
type names struct {
	columns []string
	list    []name
	index   map[string]int32
}

type name struct {
	text string
	head string // the bytes of a cell up to its value
	rest byte   // of the name, see [rest]
	next follower
	rare follower // the one that followed before next did
}

// follower is a name that followed another; number 0 if none has.
type follower struct {
	id        int32
	ascending bool // whether it stands after the other in byte order
}

// maxNames is how many names are remembered from one row to the next. A table
// can have any number of them.
const maxNames = 1 << 16

func newNames(columns []string) *names {
	n := &names{columns: columns}
	n.reset()
	return n
}

// reset forgets all names but those of the layout.
func (n *names) reset() {
	n.list = append(n.list[:0:0], name{head: "start"})
	n.index = make(map[string]int32)
	for _, c := range n.columns {
		n.add(c)
	}
}

// startRow is called between rows. Numbers given before it may be void after.
func (n *names) startRow() {
	if len(n.list) > maxNames {
		n.reset()
	}
}

func (n *names) add(text string) int32 {
	id := int32(len(n.list))
	n.list = append(n.list, name{
		text: text,
		head: string(cellHead(nil, text)),
		rest: rest([]byte(text)),
	})
	n.index[text] = id
	return id
}

// cellHead appends the bytes of a cell up to its value.
func cellHead(dst []byte, name string) []byte {
	dst = append(dst, tagCell, tagName)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(name)))
	return append(dst, name...)
}

// read returns the number of the name of the cell at start, what follows it, and
// whether it stands after the one that came before it in byte order.
func (n *names) read(wire []byte, start int, before int32) (id int32, next int, ascending bool, err error) {
	prev := &n.list[before]
	guess := &n.list[prev.next.id]
	if next = start + len(guess.head); next <= len(wire) && string(wire[start:next]) == guess.head {
		return prev.next.id, next, prev.next.ascending, nil
	}
	return n.readOther(wire, start, before)
}

// readOther is read where the name is not the one that followed the last time.
func (n *names) readOther(wire []byte, start int, before int32) (id int32, next int, ascending bool, err error) {
	prev := &n.list[before]
	if next, ok := prev.heads(wire, start); ok {
		return before, next, false, nil
	}
	if next, ok := n.list[prev.rare.id].heads(wire, start); ok {
		prev.next, prev.rare = prev.rare, prev.next
		return prev.next.id, next, prev.next.ascending, nil
	}
	text, next, err := readName(wire, start)
	if err != nil {
		return 0, 0, false, err
	}
	id, known := n.index[string(text)]
	if !known {
		id = n.add(string(text))
	}
	prev = &n.list[before]
	prev.next, prev.rare = follower{id, prev.text < n.list[id].text}, prev.next
	return id, next, prev.next.ascending, nil
}

// heads reports whether the cell at start has the name, and what follows it then.
func (n *name) heads(wire []byte, start int) (next int, ok bool) {
	next = start + len(n.head)
	return next, next <= len(wire) && string(wire[start:next]) == n.head
}
