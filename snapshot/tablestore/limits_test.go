package tablestore

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	ots "github.com/aliyun/aliyun-tablestore-go-sdk/tablestore"
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
	"github.com/otsnap/otsnap/manifest"
	"github.com/otsnap/otsnap/snapshot"
	"github.com/otsnap/otsnap/snapshot/tablestore/local"
)

// The codes most refusals have.
const (
	paramInvalid = "OTSParameterInvalid"
	quota        = "OTSQuotaExhausted"
	pageEnds     = "the page ends" // of what is no refusal, but an answer that is not all
)

const (
	kb = 1 << 10
	mb = 1 << 20
)

// takes and refuses are numbers on either side of a limit.
type (
	takes   []int64
	refuses []int64
)

// The limits of the wide-column model as the service documents them, each hit
// exactly and passed by one.
var limits = []struct {
	name    string
	do      func(s *site, n int64) error
	takes   takes
	refuses refuses
	code    string
}{
	// An instance.
	{"bytes in the name of an instance", (*site).callInstance, takes{3, 16}, refuses{2, 17}, paramInvalid},
	{"tables in an instance, five of them indexes", (*site).createMany, takes{64}, refuses{65}, quota},
	{"tables made in a second", (*site).createInASecond, takes{10}, refuses{11}, quota},

	// A table.
	{"bytes in the name of a table", (*site).createNamed, takes{1, 100, 101, 255}, refuses{0, 256}, paramInvalid},
	{"primary key columns", (*site).createKey, takes{1, 4}, refuses{0, 5}, paramInvalid},
	{"bytes in the name of a primary key column", (*site).createKeyNamed, takes{1, 255}, refuses{0, 256}, paramInvalid},
	{"predefined columns", (*site).createDefined, takes{0, 32}, refuses{33}, paramInvalid},
	{"predefined columns added", (*site).addDefined, takes{32}, refuses{33}, paramInvalid},
	{"bytes in the name of a predefined column", (*site).createDefinedNamed, takes{1, 255}, refuses{0, 256}, paramInvalid},
	{"seconds of a time to live", option(func(o *otsprotocol.TableOptions, n int64) { o.TimeToLive = proto.Int32(int32(n)) }),
		takes{-1, 86400, math.MaxInt32}, refuses{-2, 0, 1, 86399}, paramInvalid},
	{"versions kept", option(func(o *otsprotocol.TableOptions, n int64) { o.MaxVersions = proto.Int32(int32(n)) }),
		takes{-1, 1, math.MaxInt32}, refuses{-2, 0}, paramInvalid},
	{"seconds of deviation", option(func(o *otsprotocol.TableOptions, n int64) { o.DeviationCellVersionInSec = proto.Int64(n) }),
		takes{0, math.MaxInt64 / 1_000_000}, refuses{-1, math.MaxInt64/1_000_000 + 1}, paramInvalid},
	{"hours a stream is kept", (*site).createStream, takes{1, 168}, refuses{0, 169}, paramInvalid},
	{"units of reserved throughput", (*site).createReserved, takes{0, 100_000}, refuses{-1, 100_001}, paramInvalid},
	{"seconds between changes of reserved throughput", (*site).reserveAgain, takes{120, 121}, refuses{1, 119}, "OTSTooFrequentReservedThroughputAdjustment"},

	// Secondary indexes.
	{"indexes of a table", (*site).createIndexes, takes{1, 5}, refuses{6}, paramInvalid},
	{"indexed columns", (*site).createIndexKey, takes{1, 4}, refuses{0, 5}, paramInvalid},
	{"attributes of an index", (*site).createIndexColumns, takes{0, 32}, refuses{33}, paramInvalid},
	{"bytes in the name of an index", (*site).createIndexNamed, takes{1, 255}, refuses{0, 256}, paramInvalid},

	// A cell.
	{"bytes in a key of type STRING", (*site).putStringKey, takes{0, 1 * kb}, refuses{1*kb + 1}, paramInvalid},
	{"bytes in a key of type BINARY", (*site).putBinaryKey, takes{0, 1 * kb}, refuses{1*kb + 1}, paramInvalid},
	{"bytes in a key of an index", (*site).putIndexedValue, takes{0, 1 * kb}, refuses{1*kb + 1}, paramInvalid},
	{"bytes in a STRING", (*site).putString, takes{0, 2 * mb}, refuses{2*mb + 1}, paramInvalid},
	{"bytes in a BINARY", (*site).putBinary, takes{0, 2 * mb}, refuses{2*mb + 1}, paramInvalid},
	{"bytes in the name of an attribute", (*site).putNamed, takes{1, 255}, refuses{0, 256}, paramInvalid},
	{"version of a cell", (*site).putVersion, takes{0, 1, math.MaxInt64/1000 - 1}, refuses{-1, math.MaxInt64 / 1000}, paramInvalid},
	{"milliseconds from the clock, the deviation being 100 seconds", (*site).putDeviating, takes{-100_000, 0, 99_999}, refuses{-100_001, 100_000}, paramInvalid},
	{"milliseconds from the clock, the time to live being a day", (*site).putExpiring, takes{-86_400_000}, refuses{-86_401_000}, paramInvalid},

	// Writing.
	{"attributes in PutRow", (*site).putColumns, takes{0, 1024}, refuses{1025}, paramInvalid},
	{"attributes in UpdateRow", (*site).updateColumns, takes{1, 1024}, refuses{0, 1025}, paramInvalid},
	{"attributes of a row with update_full_row", (*site).putWholeRow, takes{256}, refuses{257}, "OTSOutOfColumnCountLimit"},
	{"bytes in PutRow", (*site).putBytes, takes{4 * mb}, refuses{4*mb + 1}, paramInvalid},
	{"bytes in UpdateRow", (*site).updateBytes, takes{4 * mb}, refuses{4*mb + 1}, paramInvalid},
	{"bytes in BatchWriteRow", (*site).batchBytes, takes{4 * mb}, refuses{4*mb + 1}, paramInvalid},
	{"rows in BatchWriteRow", (*site).batchRows, takes{1, 200}, refuses{0, 201}, paramInvalid},
	{"bytes in the body of a request", (*site).sendBody, takes{5 * mb}, refuses{5*mb + 1}, "OTSRequestBodyTooLarge"},

	// Reading.
	{"rows in BatchGetRow", (*site).batchGet, takes{1, 100}, refuses{0, 101}, paramInvalid},
	{"columns to get", (*site).getColumns, takes{0, 128}, refuses{129}, paramInvalid},
	{"comparisons in a filter", (*site).getFiltered, takes{2, 10}, refuses{11}, paramInvalid},
	{"rows in an answer to GetRange", (*site).scanRows, takes{5000}, refuses{5001}, pageEnds},
	{"bytes before the last row of an answer to GetRange", (*site).scanBytes, takes{4*mb - 1}, refuses{4 * mb}, pageEnds},
}

func TestLimits(t *testing.T) {
	for _, limit := range limits {
		t.Run(limit.name, func(t *testing.T) {
			for _, n := range limit.takes {
				if err := limit.do(newSite(t), n); err != nil {
					t.Errorf("%d is refused: %v", n, err)
				}
			}
			for _, n := range limit.refuses {
				if err := limit.do(newSite(t), n); codeOf(err) != limit.code {
					t.Errorf("%d is answered %v, want %s", n, err, limit.code)
				}
			}
		})
	}
}

// What is not a matter of numbers.
var rules = []struct {
	name string
	do   func(s *site) error
	code string // "": taken
}{
	{"a name begins with _", func(s *site) error { return s.create("_t") }, ""},
	{"a name has letters of both cases, digits and _", func(s *site) error { return s.create("Table_2") }, ""},
	{"a name begins with a digit", func(s *site) error { return s.create("2t") }, paramInvalid},
	{"a name has a hyphen", func(s *site) error { return s.create("a-b") }, paramInvalid},
	{"a name is not ASCII", func(s *site) error { return s.create("表") }, paramInvalid},
	{"names differ in case", func(s *site) error { return errors.Join(s.create("a"), s.create("A")) }, ""},
	{"a name is taken", func(s *site) error { return errors.Join(s.create("a"), s.create("a")) }, "OTSObjectAlreadyExist"},

	{"the first key column is AUTO_INCREMENT", func(s *site) error { return s.create("t", generated(0)) }, paramInvalid},
	{"a later one is", func(s *site) error { return s.create("t", keys(2), generated(1)) }, ""},
	{"two are", func(s *site) error { return s.create("t", keys(3), generated(1), generated(2)) }, paramInvalid},
	{"one is, with local transactions", func(s *site) error { return s.create("t", keys(2), generated(1), transactions) }, paramInvalid},
	{"local transactions", func(s *site) error { return s.create("t", keys(2), transactions) }, ""},
	{"a generated value is chosen", func(s *site) error {
		return s.with(keys(2), generated(1)).put("t", pk("a", int64(1)))
	}, paramInvalid},
	{"encrypted with the service's key", func(s *site) error { return s.create("t", encrypted(otsprotocol.SSEKeyType_SSE_KMS_SERVICE, "", "")) }, ""},
	{"encrypted with a key and a role", func(s *site) error { return s.create("t", encrypted(otsprotocol.SSEKeyType_SSE_BYOK, "key", "role")) }, ""},
	{"encrypted with a key alone", func(s *site) error { return s.create("t", encrypted(otsprotocol.SSEKeyType_SSE_BYOK, "key", "")) }, paramInvalid},
	{"update_full_row changes", func(s *site) error {
		return s.with().ask("UpdateTable", &otsprotocol.UpdateTableRequest{
			TableName: proto.String("t"), TableOptions: &otsprotocol.TableOptions{UpdateFullRow: proto.Bool(true)}})
	}, paramInvalid},

	{"NaN", func(s *site) error { return s.putValue(math.NaN()) }, paramInvalid},
	{"+Inf", func(s *site) error { return s.putValue(math.Inf(1)) }, paramInvalid},
	{"-Inf", func(s *site) error { return s.putValue(math.Inf(-1)) }, paramInvalid},
	{"the largest double", func(s *site) error { return s.putValue(math.MaxFloat64) }, ""},
	{"the smallest double", func(s *site) error { return s.putValue(math.SmallestNonzeroFloat64) }, ""},
	{"the largest integer", func(s *site) error { return s.putValue(int64(math.MaxInt64)) }, ""},
	{"the smallest integer", func(s *site) error { return s.putValue(int64(math.MinInt64)) }, ""},
	{"a string of U+0000 and U+10FFFF", func(s *site) error { return s.putValue("\x00\U0010FFFF") }, ""},
	{"a string that is not UTF-8", func(s *site) error { return s.putValue("\xff") }, paramInvalid},
	{"a key that is not UTF-8", func(s *site) error { return s.with().put("t", pk("\xff")) }, paramInvalid},
	{"a surrogate in a string", func(s *site) error { return s.putValue("\xed\xa0\x80") }, paramInvalid},
	{"a key of another type", func(s *site) error { return s.with().put("t", pk(int64(1))) }, "OTSInvalidPK"},
	{"an attribute called as a key column", func(s *site) error {
		return s.with().put("t", pk("a"), column("k0", "v"))
	}, paramInvalid},

	{"a row twice in a batch", func(s *site) error {
		return s.with().batch(part("t", pk("a"), pk("a")))
	}, paramInvalid},
	{"a table twice in a batch", func(s *site) error {
		return s.with().batch(part("t", pk("a")), part("t", pk("b")))
	}, paramInvalid},
	{"a table without rows in a batch", func(s *site) error {
		return s.with().batch(part("t", pk("a")), part("u"))
	}, paramInvalid},
	{"UpdateRow where allow_update is false", func(s *site) error {
		forbid := func(r *otsprotocol.CreateTableRequest) { r.TableOptions.AllowUpdate = proto.Bool(false) }
		return s.with(forbid).update("t", column("x", "v"))
	}, paramInvalid},

	{"an index is written", func(s *site) error {
		return s.with(indexed("x")).put("x", pk("a", "b"))
	}, paramInvalid},
	{"a version, where there is an index", func(s *site) error {
		return s.with(indexed("x")).put("t", pk("a"), &ots.AttributeColumn{ColumnName: "c", Value: "v", Timestamp: s.now.UnixMilli()})
	}, paramInvalid},
	{"an index and two versions", func(s *site) error { return s.create("t", indexed("x"), versions(2)) }, paramInvalid},
	{"an index and a time to live", func(s *site) error { return s.create("t", indexed("x"), expiring(true)) }, paramInvalid},
	{"an index, a time to live and no updates", func(s *site) error { return s.create("t", indexed("x"), expiring(false)) }, ""},
	{"an index called as its table", func(s *site) error { return s.create("t", indexed("t")) }, "OTSObjectAlreadyExist"},
}

func TestRules(t *testing.T) {
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			if err := rule.do(newSite(t)); codeOf(err) != rule.code {
				t.Errorf("answered %v, want code %q", err, rule.code)
			}
		})
	}
}

// site is a Tablestore whose clock stands still.
type site struct {
	*stage
	t   *testing.T
	in  *Instance
	now time.Time
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, now: time.Now().Truncate(time.Second)}
	server, err := local.Open(local.Options{Clock: func() time.Time { return s.now }})
	if err != nil {
		t.Fatal(err)
	}
	s.serve(server)
	return s
}

// serve puts a server behind the clients of the site.
func (s *site) serve(server *local.Server) {
	front := httptest.NewServer(server)
	s.t.Cleanup(func() {
		front.Close()
		if err := server.Close(); err != nil {
			s.t.Error(err)
		}
	})
	s.stage = &stage{server, front.URL, s.client(front.URL, "demo")}
	s.in = s.open(s.t)
}

// client is one of the SDK that gives up at the first error.
func (s *site) client(url, instance string) *ots.TableStoreClient {
	config := ots.NewDefaultTableStoreConfig()
	config.RetryTimes = 0
	return ots.NewClientWithConfig(url, instance, local.DefaultAccessKeyID, local.DefaultAccessKeySecret, "", config)
}

// codeOf returns the code of a service's error, "" for none.
func codeOf(err error) string {
	var sdk *ots.OtsError
	var own *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &sdk):
		return sdk.Code
	case errors.As(err, &own):
		return own.Code
	}
	return err.Error()
}

// ask sends a message the SDK would not.
func (s *site) ask(action string, m proto.Message) error {
	body, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	_, err = s.in.post(s.t.Context(), request{action: action, body: body}, nil)
	return err
}

// create makes a table with a key column k0 of type STRING that takes and keeps
// one version of any time, changed by edits.
func (s *site) create(name string, edits ...edit) error {
	r := &otsprotocol.CreateTableRequest{
		TableMeta:          &otsprotocol.TableMeta{TableName: &name},
		ReservedThroughput: &otsprotocol.ReservedThroughput{CapacityUnit: &otsprotocol.CapacityUnit{}},
		TableOptions: &otsprotocol.TableOptions{
			TimeToLive: proto.Int32(-1), MaxVersions: proto.Int32(1), DeviationCellVersionInSec: proto.Int64(math.MaxInt64 / 1_000_000)},
	}
	keys(1)(r)
	for _, e := range edits {
		e(r)
	}
	return s.ask("CreateTable", r)
}

// with makes the table t, which must work, for what is tried on it.
func (s *site) with(edits ...edit) *site {
	s.t.Helper()
	if err := s.create("t", edits...); err != nil {
		s.t.Fatal(err)
	}
	return s
}

// edit changes a table that is to be made.
type edit func(*otsprotocol.CreateTableRequest)

// keys gives a table n key columns: k0 of type STRING, the others INTEGER.
func keys(n int) edit {
	return func(r *otsprotocol.CreateTableRequest) {
		r.TableMeta.PrimaryKey = nil
		for i := range n {
			typ := otsprotocol.PrimaryKeyType_INTEGER
			if i == 0 {
				typ = otsprotocol.PrimaryKeyType_STRING
			}
			r.TableMeta.PrimaryKey = append(r.TableMeta.PrimaryKey, &otsprotocol.PrimaryKeySchema{Name: proto.String(fmt.Sprint("k", i)), Type: &typ})
		}
	}
}

func generated(i int) edit {
	return func(r *otsprotocol.CreateTableRequest) {
		column := r.TableMeta.PrimaryKey[i]
		column.Type, column.Option = otsprotocol.PrimaryKeyType_INTEGER.Enum(), otsprotocol.PrimaryKeyOption_AUTO_INCREMENT.Enum()
	}
}

func transactions(r *otsprotocol.CreateTableRequest) { r.EnableLocalTxn = proto.Bool(true) }

func encrypted(typ otsprotocol.SSEKeyType, key, role string) edit {
	return func(r *otsprotocol.CreateTableRequest) {
		r.SseSpec = &otsprotocol.SSESpecification{Enable: proto.Bool(true), KeyType: &typ, KeyId: []byte(key), RoleArn: []byte(role)}
	}
}

// defined gives a table n predefined columns, c00 and so on, of type STRING.
func defined(n int64) edit {
	return func(r *otsprotocol.CreateTableRequest) { r.TableMeta.DefinedColumn = definedColumns(n) }
}

func definedColumns(n int64) (columns []*otsprotocol.DefinedColumnSchema) {
	for _, name := range definedNames(n) {
		columns = append(columns, &otsprotocol.DefinedColumnSchema{Name: &name, Type: otsprotocol.DefinedColumnType_DCT_STRING.Enum()})
	}
	return columns
}

func definedNames(n int64) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("c%02d", i))
	}
	return names
}

// indexed gives a table an index by its predefined column c00, with attributes.
func indexed(name string, columns ...string) edit {
	return func(r *otsprotocol.CreateTableRequest) {
		defined(max(1, int64(len(columns)+1)))(r)
		index(name, []string{"c00"}, columns...)(r)
	}
}

func index(name string, key []string, columns ...string) edit {
	return func(r *otsprotocol.CreateTableRequest) {
		r.IndexMetas = append(r.IndexMetas, &otsprotocol.IndexMeta{Name: &name, PrimaryKey: key, DefinedColumn: columns,
			IndexType: otsprotocol.IndexType_IT_GLOBAL_INDEX.Enum(), IndexUpdateMode: otsprotocol.IndexUpdateMode_IUM_ASYNC_INDEX.Enum()})
	}
}

func versions(n int32) edit {
	return func(r *otsprotocol.CreateTableRequest) { r.TableOptions.MaxVersions = &n }
}

// expiring gives a table a time to live of a day.
func expiring(updates bool) edit {
	return func(r *otsprotocol.CreateTableRequest) {
		r.TableOptions.TimeToLive, r.TableOptions.AllowUpdate = proto.Int32(86400), &updates
	}
}

// option makes a table with an option that is a number.
func option(set func(*otsprotocol.TableOptions, int64)) func(*site, int64) error {
	return func(s *site, n int64) error {
		return s.create("t", func(r *otsprotocol.CreateTableRequest) { set(r.TableOptions, n) })
	}
}

func ofLength(n int64) string { return strings.Repeat("n", int(n)) }

func (s *site) callInstance(n int64) error {
	_, err := s.client(s.url, ofLength(n)).ListTable()
	return err
}

func (s *site) createMany(n int64) error {
	five := func(r *otsprotocol.CreateTableRequest) {
		for i := range 5 {
			index(fmt.Sprint("index", i), []string{"c00"})(r)
		}
	}
	err := s.create("first", defined(1), five)
	for i := range n - 6 {
		err = errors.Join(err, s.create(fmt.Sprint("t", i)))
	}
	return err
}

func (s *site) createInASecond(n int64) error {
	server, err := local.Open(local.Options{Clock: func() time.Time { return s.now }, TableOps: 10})
	if err != nil {
		return err
	}
	s.serve(server)
	for i := range n {
		err = errors.Join(err, s.create(fmt.Sprint("t", i)))
	}
	return err
}

func (s *site) createNamed(n int64) error { return s.create(ofLength(n)) }
func (s *site) createKey(n int64) error   { return s.create("t", keys(int(n))) }
func (s *site) createKeyNamed(n int64) error {
	return s.create("t", func(r *otsprotocol.CreateTableRequest) { *r.TableMeta.PrimaryKey[0].Name = ofLength(n) })
}

func (s *site) createDefined(n int64) error { return s.create("t", defined(n)) }
func (s *site) createDefinedNamed(n int64) error {
	return s.create("t", defined(1), func(r *otsprotocol.CreateTableRequest) { *r.TableMeta.DefinedColumn[0].Name = ofLength(n) })
}

func (s *site) addDefined(n int64) error {
	return s.with(defined(1)).ask("AddDefinedColumn", &otsprotocol.AddDefinedColumnRequest{
		TableName: proto.String("t"), Columns: definedColumns(n)[1:]})
}

func (s *site) createStream(n int64) error {
	return s.create("t", func(r *otsprotocol.CreateTableRequest) {
		r.StreamSpec = &otsprotocol.StreamSpecification{EnableStream: proto.Bool(true), ExpirationTime: proto.Int32(int32(n))}
	})
}

func (s *site) createReserved(n int64) error {
	return s.create("t", func(r *otsprotocol.CreateTableRequest) {
		r.ReservedThroughput = throughput(manifest.Throughput{Read: n, Write: n})
	})
}

func (s *site) reserveAgain(n int64) error {
	reserve := func(units int64) error {
		return s.ask("UpdateTable", &otsprotocol.UpdateTableRequest{TableName: proto.String("t"), ReservedThroughput: throughput(manifest.Throughput{Read: units})})
	}
	s.with()
	if err := reserve(1); err != nil {
		s.t.Fatal(err)
	}
	s.now = s.now.Add(time.Duration(n) * time.Second)
	return reserve(2)
}

func (s *site) createIndexes(n int64) error {
	s.with(defined(1))
	var err error
	for i := range n {
		_, e := s.sdk.CreateIndex(&ots.CreateIndexRequest{MainTableName: "t", IndexMeta: &ots.IndexMeta{
			IndexName: fmt.Sprint("index", i), Primarykey: []string{"c00"}, IndexType: ots.IT_GLOBAL_INDEX}})
		err = errors.Join(err, e)
	}
	return err
}

func (s *site) createIndexKey(n int64) error {
	return s.create("t", defined(5), index("x", definedNames(n)))
}

func (s *site) createIndexColumns(n int64) error {
	return s.create("t", defined(min(n, 32)), index("x", []string{"k0"}, definedNames(n)...))
}

func (s *site) createIndexNamed(n int64) error { return s.create("t", indexed(ofLength(n))) }

// pk is a primary key of the columns k0 and so on.
func pk(values ...any) *ots.PrimaryKey {
	k := new(ots.PrimaryKey)
	for i, v := range values {
		k.AddPrimaryKeyColumn(fmt.Sprint("k", i), v)
	}
	return k
}

func column(name string, value any) *ots.AttributeColumn {
	return &ots.AttributeColumn{ColumnName: name, Value: value}
}

// put writes a row; columns without a version get the server's.
func (s *site) put(table string, key *ots.PrimaryKey, columns ...*ots.AttributeColumn) error {
	_, err := s.sdk.PutRow(&ots.PutRowRequest{PutRowChange: putting(table, key, columns...)})
	return err
}

func putting(table string, key *ots.PrimaryKey, columns ...*ots.AttributeColumn) *ots.PutRowChange {
	put := &ots.PutRowChange{TableName: table, PrimaryKey: key}
	put.SetCondition(ots.RowExistenceExpectation_IGNORE)
	for _, c := range columns {
		put.AddColumnWithTimestamp(c.ColumnName, c.Value, c.Timestamp)
	}
	return put
}

// update updates the row a.
func (s *site) update(table string, columns ...*ots.AttributeColumn) error {
	update := &ots.UpdateRowChange{TableName: table, PrimaryKey: pk("a")}
	update.SetCondition(ots.RowExistenceExpectation_IGNORE)
	for _, c := range columns {
		update.PutColumn(c.ColumnName, c.Value)
	}
	_, err := s.sdk.UpdateRow(&ots.UpdateRowRequest{UpdateRowChange: update})
	return err
}

func (s *site) putStringKey(n int64) error {
	return s.with().put("t", pk(ofLength(n)))
}

func (s *site) putBinaryKey(n int64) error {
	binary := func(r *otsprotocol.CreateTableRequest) {
		r.TableMeta.PrimaryKey[0].Type = otsprotocol.PrimaryKeyType_BINARY.Enum()
	}
	return s.with(binary).put("t", pk([]byte(ofLength(n))))
}

func (s *site) putIndexedValue(n int64) error {
	return s.with(indexed("x")).put("t", pk("a"), column("c00", ofLength(n)))
}

func (s *site) putValue(v any) error {
	return s.with().put("t", pk("a"), column("x", v))
}

func (s *site) putString(n int64) error { return s.putValue(ofLength(n)) }
func (s *site) putBinary(n int64) error { return s.putValue([]byte(ofLength(n))) }
func (s *site) putNamed(n int64) error {
	return s.with().put("t", pk("a"), column(ofLength(n), "v"))
}

// dated writes a cell of a version through UpdateRow, for the SDK takes 0 for none
// in PutRow.
func (s *site) dated(version int64) error {
	update := &ots.UpdateRowChange{TableName: "t", PrimaryKey: pk("a")}
	update.SetCondition(ots.RowExistenceExpectation_IGNORE)
	update.PutColumnWithTimestamp("x", "v", version)
	_, err := s.sdk.UpdateRow(&ots.UpdateRowRequest{UpdateRowChange: update})
	return err
}

func (s *site) putVersion(n int64) error { return s.with().dated(n) }

func (s *site) putDeviating(n int64) error {
	deviation := func(r *otsprotocol.CreateTableRequest) { r.TableOptions.DeviationCellVersionInSec = proto.Int64(100) }
	return s.with(deviation).dated(s.now.UnixMilli() + n)
}

func (s *site) putExpiring(n int64) error {
	return s.with(expiring(true)).dated(s.now.UnixMilli() + n)
}

// wide returns n columns.
func wide(n int64) (columns []*ots.AttributeColumn) {
	for _, name := range names(int(n)) {
		columns = append(columns, column(name, "v"))
	}
	return columns
}

func (s *site) putColumns(n int64) error {
	return s.with().put("t", pk("a"), wide(n)...)
}

func (s *site) updateColumns(n int64) error {
	return s.with().update("t", wide(n)...)
}

func (s *site) putWholeRow(n int64) error {
	whole := func(r *otsprotocol.CreateTableRequest) { r.TableOptions.UpdateFullRow = proto.Bool(true) }
	return s.with(whole).put("t", pk("a"), wide(n)...)
}

// sized returns columns that with a key of one letter are a row of n bytes as the
// service counts: names and values, and a version for each attribute.
func sized(n int64) (columns []*ots.AttributeColumn) {
	const key, cell, most = len("k0") + len("a"), len("0") + 8, 1 * mb
	for left := int(n) - key; left > 0; {
		size := min(left, most)
		if rest := left - size; rest > 0 && rest <= cell {
			size -= cell
		}
		columns = append(columns, column(fmt.Sprint(len(columns)), []byte(ofLength(int64(size-cell)))))
		left -= size
	}
	return columns
}

func (s *site) putBytes(n int64) error {
	return s.with().put("t", pk("a"), sized(n)...)
}

func (s *site) updateBytes(n int64) error {
	return s.with().update("t", sized(n)...)
}

func (s *site) batchBytes(n int64) error {
	b := &ots.BatchWriteRowRequest{}
	b.AddRowChange(putting("t", pk("a"), sized(n/2)...))
	b.AddRowChange(putting("t", pk("b"), sized(n-n/2)...))
	return s.with().batchOf(b)
}

func (s *site) batchRows(n int64) error {
	var rows []*ots.PrimaryKey
	for i := range n {
		rows = append(rows, pk(fmt.Sprint(i)))
	}
	return s.with().batch(part("t", rows...))
}

func (s *site) batchOf(b *ots.BatchWriteRowRequest) error {
	result, err := s.sdk.BatchWriteRow(b)
	if err != nil {
		return err
	}
	for _, rows := range result.TableToRowsResult {
		for _, r := range rows {
			if !r.IsSucceed {
				return &ots.OtsError{Code: r.Error.Code, Message: r.Error.Message}
			}
		}
	}
	return nil
}

// part is a table in a batch the SDK would not send, with rows to put.
func part(table string, rows ...*ots.PrimaryKey) *otsprotocol.TableInBatchWriteRowRequest {
	p := &otsprotocol.TableInBatchWriteRowRequest{TableName: &table}
	for _, k := range rows {
		p.Rows = append(p.Rows, &otsprotocol.RowInBatchWriteRowRequest{
			Type:      otsprotocol.OperationType_PUT.Enum(),
			RowChange: putting(table, k).Serialize(),
			Condition: &otsprotocol.Condition{RowExistence: otsprotocol.RowExistenceExpectation_IGNORE.Enum()},
		})
	}
	return p
}

func (s *site) batch(parts ...*otsprotocol.TableInBatchWriteRowRequest) error {
	return s.ask("BatchWriteRow", &otsprotocol.BatchWriteRowRequest{Tables: parts})
}

// sendBody lists tables with a body of n bytes: a field the message does not have.
func (s *site) sendBody(n int64) error {
	const head = 1 + 4 // a tag, and a length of that many megabytes
	body := appendBytes(nil, 15, bytes.Repeat([]byte{0}, int(n)-head))
	if int64(len(body)) != n {
		s.t.Fatalf("the body has %d bytes", len(body))
	}
	_, err := s.in.post(s.t.Context(), request{action: "ListTable", body: body}, nil)
	return err
}

func (s *site) batchGet(n int64) error {
	table := &otsprotocol.TableInBatchGetRowRequest{TableName: proto.String("t"), MaxVersions: proto.Int32(1)}
	for i := range n {
		table.PrimaryKey = append(table.PrimaryKey, pk(fmt.Sprint(i)).Build(false))
	}
	return s.with().ask("BatchGetRow", &otsprotocol.BatchGetRowRequest{Tables: []*otsprotocol.TableInBatchGetRowRequest{table}})
}

// get reads the row a as the criteria want it.
func (s *site) get(criteria *ots.SingleRowQueryCriteria) error {
	criteria.TableName, criteria.PrimaryKey, criteria.MaxVersion = "t", pk("a"), 1
	_, err := s.sdk.GetRow(&ots.GetRowRequest{SingleRowQueryCriteria: criteria})
	return err
}

func (s *site) getColumns(n int64) error {
	return s.with().get(&ots.SingleRowQueryCriteria{ColumnsToGet: names(int(n))})
}

func (s *site) getFiltered(n int64) error {
	filter := ots.NewCompositeColumnCondition(ots.LO_AND)
	for _, name := range names(int(n)) {
		filter.AddFilter(ots.NewSingleColumnCondition(name, ots.CT_EQUAL, "v"))
	}
	return s.with().get(&ots.SingleRowQueryCriteria{Filter: filter})
}

// scanPage reads a page from the first row on. One that is not all of the table
// is an error.
func (s *site) scanPage() error {
	from, to := new(ots.PrimaryKey), new(ots.PrimaryKey)
	from.AddPrimaryKeyColumnWithMinValue("k0")
	to.AddPrimaryKeyColumnWithMaxValue("k0")
	answer, err := s.sdk.GetRange(&ots.GetRangeRequest{RangeRowQueryCriteria: &ots.RangeRowQueryCriteria{
		TableName: "t", StartPrimaryKey: from, EndPrimaryKey: to, MaxVersion: 1, Direction: ots.FORWARD}})
	if err == nil && answer.NextStartPrimaryKey != nil {
		return errors.New(pageEnds)
	}
	return err
}

func (s *site) scanRows(n int64) error {
	s.with()
	var rows []*ots.PrimaryKey
	for i := range n {
		rows = append(rows, pk(fmt.Sprintf("%05d", i)))
	}
	for some := range slices.Chunk(rows, 200) {
		if err := s.batch(part("t", some...)); err != nil {
			return err
		}
	}
	return s.scanPage()
}

func (s *site) scanBytes(n int64) error {
	return errors.Join(s.with().put("t", pk("a"), sized(n)...), s.put("t", pk("b")), s.scanPage())
}

// Rows at the limits, and beyond those of a request, come back through
// [Instance.Write] and [Instance.Scan] as they were, to the byte.
func TestRowsAtTheLimits(t *testing.T) {
	named := func(edit func(*manifest.Table)) manifest.Table {
		table := orders
		edit(&table)
		return table
	}
	row := func(columns ...*ots.AttributeColumn) []*ots.Row {
		return []*ots.Row{{PrimaryKey: key("CH", 1, nil), Columns: columns}}
	}
	cell := func(name string, value any, version int64) *ots.AttributeColumn {
		return &ots.AttributeColumn{ColumnName: name, Value: value, Timestamp: version}
	}
	columns := func(n int, value any) (cells []*ots.AttributeColumn) {
		for _, name := range names(n) {
			cells = append(cells, cell(name, value, 1))
		}
		return cells
	}
	history := func(n int) (cells []*ots.AttributeColumn) {
		for v := range n {
			cells = append(cells, cell("stock", int64(v), int64(n-v)))
		}
		return cells
	}
	many := func(n int) (rows []*ots.Row) {
		for i := range n {
			rows = append(rows, &ots.Row{PrimaryKey: key("CH", int64(i), nil)})
		}
		return rows
	}
	const lastVersion = math.MaxInt64/1000 - 1
	long := ofLength(255)
	for name, test := range map[string]struct {
		table manifest.Table
		rows  []*ots.Row
	}{
		"a table with a name of 255 bytes": {named(func(m *manifest.Table) { m.Name = long }), row(cell("x", "v", 1))},
		"four key columns with names of 255 bytes": {
			named(func(m *manifest.Table) {
				m.Defined, m.Key = nil, nil
				for i := range 4 {
					m.Key = append(m.Key, manifest.KeyColumn{Name: fmt.Sprint(long[1:], i), Type: manifest.String})
				}
			}),
			[]*ots.Row{{PrimaryKey: func() *ots.PrimaryKey {
				k := new(ots.PrimaryKey)
				for i := range 4 {
					k.AddPrimaryKeyColumn(fmt.Sprint(long[1:], i), strings.Repeat("v", 1*kb))
				}
				return k
			}(), Columns: []*ots.AttributeColumn{cell(long, "v", 1)}}},
		},
		"32 predefined columns": {named(func(m *manifest.Table) {
			m.Defined = nil
			for _, name := range definedNames(32) {
				m.Defined = append(m.Defined, manifest.Column{Name: name, Type: manifest.Binary})
			}
		}), row(cell("c00", []byte{}, 1))},
		"keys at both ends": {orders, []*ots.Row{
			{PrimaryKey: key("", math.MinInt64, []byte{})},
			{PrimaryKey: key("", math.MaxInt64, bytes.Repeat([]byte{0}, 1*kb))},
			{PrimaryKey: key("\x00", 0, []byte{0})},
			{PrimaryKey: key(strings.Repeat("\U0010FFFF", 256), 0, bytes.Repeat([]byte{0xFF}, 1*kb))},
		}},
		"5001 rows of a key alone": {orders, many(5001)},
		"empty values":             {orders, row(cell("blob", []byte{}, 1), cell("name", "", 1))},
		"numbers at both ends": {orders, row(
			cell("a", int64(math.MinInt64), 1), cell("b", int64(math.MaxInt64), 1), cell("c", math.MaxFloat64, 1), cell("d", -math.MaxFloat64, 1),
			cell("e", math.SmallestNonzeroFloat64, 1), cell("f", math.Copysign(0, -1), 1), cell("g", 0.0, 1))},
		"versions at both ends":              {orders, row(cell("name", "new", lastVersion), cell("name", "old", 0), cell("stock", int64(1), 0), cell("x", "v", lastVersion))},
		"a column with a name of 255 bytes":  {orders, row(cell(long, "v", 1))},
		"a column with a name in Chinese":    {orders, row(cell(strings.Repeat("列", 85), "v", 1))},
		"1024 columns":                       {orders, row(columns(1024, "v")...)},
		"1025 columns":                       {orders, row(columns(1025, "v")...)},
		"10,000 columns":                     {orders, row(columns(10_000, "v")...)},
		"a cell of 2 MB":                     {orders, row(columns(1, strings.Repeat("v", 2*mb))...)},
		"cells of 2 MB in a row of 6 MB":     {orders, row(columns(3, bytes.Repeat([]byte{0}, 2*mb))...)},
		"1000 cells in a row of 5 MB":        {orders, row(columns(1000, strings.Repeat("v", 5*kb))...)},
		"more versions than orders keeps":    {named(func(m *manifest.Table) { m.Options.MaxVersions = 3 }), row(history(100)...)},
		"more versions than a request holds": {orders, row(history(1025)...)},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			in := s.open(t)
			mustCreate(t.Context(), t, in, test.table)
			mustWrite(t, in, test.table, test.rows)
			compareRows(t, wire(s.read(t, test.table)), wire(test.rows)) // as the SDK reads them
			got, err := scan(t, in, snapshot.Scan{Table: test.table, Layout: layoutOf(t, test.table)})
			if err != nil {
				t.Fatal(err)
			}
			compareRows(t, got, wire(test.rows))
		})
	}
}
