package main

import (
	"bytes"
	"fmt"
	"go/format"
	"strconv"
	"strings"

	"github.com/otsnap/otsnap/cmd/otsnap/internal/console"
	"github.com/otsnap/otsnap/manifest"
)

// program is Go source under construction.
type program struct{ bytes.Buffer }

func (p *program) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// comment adds a line of comment, whatever is in it.
func (p *program) comment(format string, args ...any) {
	text := console.Printable(fmt.Sprintf(format, args...))
	p.line("// %s", strings.ReplaceAll(text, "\n", " "))
}

// literal writes a string as Go does, in ASCII.
func literal(s string) string { return strconv.QuoteToASCII(s) }

func literals(all []string) string {
	var text []string
	for _, s := range all {
		text = append(text, literal(s))
	}
	return "[]string{" + strings.Join(text, ", ") + "}"
}

// goProgram returns a Go program that makes the tables again, empty.
func goProgram(r schemaResult) ([]byte, error) {
	p := new(program)
	p.comment("This program makes tables of the Tablestore instance %s again, empty, as snapshot %d", console.Quote(r.Instance.Name), r.Seq)
	p.comment("(%s) has them. To run it in a directory of its own:", r.Snapshot)
	p.line("//")
	p.line("//\tgo mod init recreate && go get github.com/aliyun/aliyun-tablestore-go-sdk@v1.8.0")
	p.line("//\tTABLESTORE_ENDPOINT=https://INSTANCE.REGION.ots.aliyuncs.com TABLESTORE_INSTANCE=INSTANCE \\")
	p.line("//\tTABLESTORE_ACCESS_KEY_ID=... TABLESTORE_ACCESS_KEY_SECRET=... go run .")
	p.line("//")
	p.line("// While a table has an index, nobody can choose the versions of its cells. Who puts")
	p.line("// rows back by hand does so before the indexes are made: with the argument")
	p.line("// \"tables\" only the tables are made, with \"indexes\" only these.")
	p.line("package main")
	p.line("import (")
	if searchIndexes(r.Tables) > 0 {
		p.line(`"encoding/json"`)
	}
	p.line("\"log\"\n\"os\"\n\n\"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore\"\n)")
	p.main(r.Tables)
	for i, t := range r.Tables {
		switch t.Timeseries.Part {
		case manifest.MetaPart: // made with the other part
			continue
		case manifest.DataPart:
			p.timeseries(i, t)
			continue
		}
		p.table(i, t)
		p.indexes(i, t)
	}
	source, err := format.Source(p.Bytes())
	if err != nil {
		return nil, fmt.Errorf("the program for the tables is no Go: %w", err)
	}
	return source, nil
}

func searchIndexes(tables []manifest.Table) (n int) {
	for _, t := range tables {
		n += len(t.SearchIndexes)
	}
	return n
}

// main adds what runs every step.
func (p *program) main(tables []manifest.Table) {
	p.line(`
func main() {
	client := tablestore.NewClient(os.Getenv("TABLESTORE_ENDPOINT"), os.Getenv("TABLESTORE_INSTANCE"),
		os.Getenv("TABLESTORE_ACCESS_KEY_ID"), os.Getenv("TABLESTORE_ACCESS_KEY_SECRET"))
	only := ""
	if len(os.Args) > 1 {
		only = os.Args[1]
	}
	steps := []struct {
		kind, what string
		run        func(*tablestore.TableStoreClient) error
	}{`)
	for i, t := range tables {
		if t.Timeseries.Part == manifest.MetaPart {
			continue
		}
		p.line(`{"tables", %s, table%d},`, literal("table "+t.Name), i+1)
	}
	for i, t := range tables {
		if len(t.Indexes)+len(t.SearchIndexes) > 0 {
			p.line(`{"indexes", %s, indexes%d},`, literal("indexes of table "+t.Name), i+1)
		}
	}
	p.line(`}
	for _, step := range steps {
		if only != "" && only != step.kind {
			continue
		}
		if err := step.run(client); err != nil {
			log.Fatalf("%%s: %%v", step.what, err)
		}
		log.Printf("%%s: made", step.what)
	}
}

func boolean(b bool) *bool { return &b }`)
}

// table adds the function that makes a table.
func (p *program) table(i int, t manifest.Table) {
	p.line("")
	p.comment("table%d makes the table %s.", i+1, console.Quote(t.Name))
	if len(t.Name) > sdkTableName {
		p.comment("The SDK refuses its name, which has more than %d bytes, though the service takes it.", sdkTableName)
	}
	if t.Options.Deviation == 0 {
		p.comment("The SDK cannot ask for a deviation of 0: the service chooses its default.")
	}
	for _, what := range t.NotCaptured {
		p.comment("Not captured: %s.", what)
	}
	p.line("func table%d(client *tablestore.TableStoreClient) error {", i+1)
	p.line("meta := &tablestore.TableMeta{TableName: %s}", literal(t.Name))
	for _, k := range t.Key {
		if k.AutoIncrement {
			p.line("meta.AddPrimaryKeyColumnOption(%s, tablestore.PrimaryKeyType_%s, tablestore.AUTO_INCREMENT)", literal(k.Name), k.Type)
			continue
		}
		p.line("meta.AddPrimaryKeyColumn(%s, tablestore.PrimaryKeyType_%s)", literal(k.Name), k.Type)
	}
	for _, c := range t.Defined {
		p.line("meta.AddDefinedColumn(%s, tablestore.DefinedColumn_%s)", literal(c.Name), c.Type)
	}
	p.line("request := &tablestore.CreateTableRequest{\nTableMeta: meta,")
	p.line("TableOption: &tablestore.TableOption{")
	p.line("TimeToAlive: %d, // seconds; -1 is for ever", t.Options.TTL)
	p.line("MaxVersion: %d,", t.Options.MaxVersions)
	p.line("DeviationCellVersionInSec: %d,", t.Options.Deviation)
	p.line("AllowUpdate: boolean(%t),\nUpdateFullRow: boolean(%t),\n},", t.Options.AllowUpdate, t.Options.UpdateFullRow)
	p.line("ReservedThroughput: &tablestore.ReservedThroughput{Readcap: %d, Writecap: %d},", t.Throughput.Read, t.Throughput.Write)
	p.stream(t.Stream)
	p.line("}")
	p.encryption(t.Encryption)
	p.line("_, err := client.CreateTable(request)\nreturn err\n}")
}

// timeseries adds the function that makes a timeseries table. It asks through a
// client of its own.
func (p *program) timeseries(i int, t manifest.Table) {
	s := t.Timeseries
	p.line("")
	p.comment("table%d makes the timeseries table %s.", i+1, console.Quote(t.Name))
	if s.MetaTTL != -1 || !s.UpdateAttributes {
		p.comment("The SDK cannot say how long series live (here %d seconds) and whether their attributes can be changed (%t).", s.MetaTTL, s.UpdateAttributes)
	}
	if s.Unhashed {
		p.comment("The SDK cannot leave out the hash before the keys, which this table is without.")
	}
	for _, what := range t.NotCaptured {
		p.comment("Not captured: %s.", what)
	}
	p.line("func table%d(*tablestore.TableStoreClient) error {", i+1)
	p.line(`client := tablestore.NewTimeseriesClient(os.Getenv("TABLESTORE_ENDPOINT"), os.Getenv("TABLESTORE_INSTANCE"),
		os.Getenv("TABLESTORE_ACCESS_KEY_ID"), os.Getenv("TABLESTORE_ACCESS_KEY_SECRET"))`)
	p.line("meta := tablestore.NewTimeseriesTableMeta(%s)", literal(t.Name))
	p.line("meta.SetTimeseriesTableOptions(tablestore.NewTimeseriesTableOptions(%d)) // seconds; -1 is for ever", s.TTL)
	for _, key := range s.Keys {
		p.line("meta.AddTimeseriesKey(%s)", literal(key))
	}
	p.line("request := tablestore.NewCreateTimeseriesTableRequest()\nrequest.SetTimeseriesTableMeta(meta)")
	p.line("request.SetEnableAnalyticalStore(%t)", len(s.AnalyticalStores) > 0)
	for n, store := range s.AnalyticalStores {
		p.line("store%d := tablestore.NewTimeseriesAnalyticalStore(%s)", n+1, literal(store.Name))
		if store.TTL != 0 {
			p.line("store%d.SetTimeToLive(%d)", n+1, store.TTL)
		}
		if store.Sync != "" {
			p.line("store%d.SetSyncOption(tablestore.SYNC_TYPE_%s)", n+1, store.Sync)
		}
	}
	if n := len(s.AnalyticalStores); n > 0 {
		var names []string
		for i := range n {
			names = append(names, fmt.Sprintf("store%d", i+1))
		}
		p.line("request.SetAnalyticalStores([]*tablestore.TimeseriesAnalyticalStore{%s})", strings.Join(names, ", "))
	}
	if len(s.LastpointIndexes) > 0 {
		p.line("request.SetLastpointIndexNames(%s)", literals(s.LastpointIndexes))
	}
	p.line("_, err := client.CreateTimeseriesTable(request)\nreturn err\n}")
}

// sdkTableName is how many bytes of a table's name the SDK takes.
const sdkTableName = 100

func (p *program) stream(s manifest.Stream) {
	if !s.Enabled {
		return
	}
	p.line("StreamSpec: &tablestore.StreamSpecification{\nEnableStream: true,\nExpirationTime: %d, // hours", s.Hours)
	if len(s.Columns) > 0 {
		p.line("OriginColumnsToGet: %s,", literals(s.Columns))
	}
	p.line("},")
}

func (p *program) encryption(e manifest.Encryption) {
	if !e.Enabled {
		return
	}
	p.line("sse := new(tablestore.SSESpecification)\nsse.SetEnable(true)")
	if e.KeyType == tablestoreKey {
		p.line("sse.SetKeyType(tablestore.SSE_KMS_SERVICE)")
	} else {
		p.line("// A customer's key and its role are of one region: put in those of the new one.")
		p.line("sse.SetKeyType(tablestore.SSE_BYOK)\nsse.SetKeyId(%s)\nsse.SetRoleArn(%s)", literal(e.KeyID), literal(e.RoleARN))
	}
	p.line("request.SSESpecification = sse")
}

// tablestoreKey is the type of a key that is the service's own.
const tablestoreKey = "SSE_KMS_SERVICE"

// indexes adds the function that makes a table's indexes.
func (p *program) indexes(i int, t manifest.Table) {
	if len(t.Indexes)+len(t.SearchIndexes) == 0 {
		return
	}
	p.line("")
	p.comment("indexes%d makes the indexes of the table %s.", i+1, console.Quote(t.Name))
	p.line("func indexes%d(client *tablestore.TableStoreClient) error {", i+1)
	for _, index := range t.Indexes {
		kind := "IT_GLOBAL_INDEX"
		if index.Type == "LOCAL" {
			kind = "IT_LOCAL_INDEX"
		}
		p.line("if _, err := client.CreateIndex(&tablestore.CreateIndexRequest{\nMainTableName: %s,\nIncludeBaseData: true,", literal(t.Name))
		p.line("IndexMeta: &tablestore.IndexMeta{\nIndexName: %s,\nPrimarykey: %s,\nDefinedColumns: %s,\nIndexType: tablestore.%s,\n},",
			literal(index.Name), literals(index.Key), literals(index.Columns), kind)
		p.line("}); err != nil {\nreturn err\n}")
	}
	for _, index := range t.SearchIndexes {
		p.line("{\nschema := new(tablestore.IndexSchema)")
		p.line("if err := json.Unmarshal([]byte(%s), schema); err != nil {\nreturn err\n}", literal(index.Schema))
		if index.TTL > 0 {
			p.line("live := int32(%d) // seconds", index.TTL)
		}
		p.line("if _, err := client.CreateSearchIndex(&tablestore.CreateSearchIndexRequest{\nTableName: %s,\nIndexName: %s,\nIndexSchema: schema,", literal(t.Name), literal(index.Name))
		if index.TTL > 0 {
			p.line("TimeToLive: &live,")
		}
		p.line("}); err != nil {\nreturn err\n}\n}")
	}
	p.line("return nil\n}")
}
