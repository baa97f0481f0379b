package local

import (
	"errors"
	"slices"
	"time"

	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
	"github.com/golang/protobuf/proto"
)

// searchIndex is a search index as it was asked for. It holds no rows: it can be
// managed, not searched.
type searchIndex struct {
	Name       string    `json:"name"`
	Schema     []byte    `json:"schema"`           // an IndexSchema, as it was sent
	TimeToLive int32     `json:"time_to_live"`     // seconds, -1: for ever
	Source     string    `json:"source,omitempty"` // the index it is to take the place of
	Weights    []weight  `json:"weights,omitempty"`
	Created    time.Time `json:"created"`
	Built      time.Time `json:"built"` // before, its phase is FULL
}

// weight is an index's share of the queries to one that is being replaced, in percent.
type weight struct {
	Name  string `json:"name"`
	Share int32  `json:"share"`
}

// reindexSuffix ends the name of an index that is to take another's place.
const reindexSuffix = "_reindex"

// search returns which of the search indexes has the name.
func (d *definition) search(name string) (int, error) {
	i := slices.IndexFunc(d.Searches, func(x searchIndex) bool { return x.Name == name })
	if i < 0 {
		return 0, errIndexNotExist(name)
	}
	return i, nil
}

func (s *Server) createSearchIndex(c call, req *otsprotocol.CreateSearchIndexRequest) (proto.Message, error) {
	old, err := s.mainTable(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	x, err := old.newSearchIndex(req)
	if err != nil {
		return nil, err
	}
	if _, err := old.search(x.Name); err == nil {
		return nil, errIndexExists(x.Name)
	}
	if s.building(c.instance) >= maxBuilding {
		return nil, invalid("the number of index in creating has exceed the instance quota, limit: %d", maxBuilding)
	}
	x.Created = s.clock()
	x.Built = x.Created.Add(s.build)
	d := *old
	d.Searches = append(slices.Clone(old.Searches), x)
	if err := d.checkIndexOptions(); err != nil {
		return nil, err
	}
	return &otsprotocol.CreateSearchIndexResponse{}, s.replace(&d)
}

// newSearchIndex checks a request for a search index of a table.
func (d *definition) newSearchIndex(req *otsprotocol.CreateSearchIndexRequest) (x searchIndex, err error) {
	x = searchIndex{Name: req.GetIndexName(), Source: req.GetSourceIndexName(), TimeToLive: -1}
	if !validName(x.Name) {
		return x, invalid("Invalid index name: '%s'.", x.Name)
	}
	if req.TimeToLive != nil {
		x.TimeToLive = req.GetTimeToLive()
	}
	if err := checkSearchTimeToLive(x.TimeToLive); err != nil {
		return x, err
	}
	if x.Source != "" {
		if _, err := d.search(x.Source); err != nil {
			return x, err
		}
		if x.Name != x.Source+reindexSuffix {
			return x, invalid("The name of an index made from '%s' must be '%s', it is '%s'.", x.Source, x.Source+reindexSuffix, x.Name)
		}
	}
	if err := d.checkSearchSchema(req.GetSchema()); err != nil {
		return x, err
	}
	x.Schema, err = proto.Marshal(req.GetSchema())
	return x, err
}

func checkSearchTimeToLive(ttl int32) error {
	if ttl != -1 && ttl < minTimeToLive {
		return invalid("[search index ttl] must be -1 or not less than %d, it is %d", minTimeToLive, ttl)
	}
	return nil
}

// partial tells whether a row may be written in part, so that its cells expire
// one after another.
func (opts options) partial() bool { return opts.AllowUpdate && !opts.UpdateFullRow }

// checkSearchOptions holds what the search indexes' times to live ask of the
// table: that rows are only ever written whole, and that none expires in the table
// before it does in the index.
func (d *definition) checkSearchOptions() error {
	for _, x := range d.Searches {
		if x.TimeToLive == -1 {
			continue
		}
		if d.Options.partial() {
			return invalid("[search index ttl] of '%s' is %d, which takes a table with allow_update false or update_full_row true, table: '%s'", x.Name, x.TimeToLive, d.Name)
		}
		if ttl := d.Options.TimeToLive; ttl != -1 && ttl < x.TimeToLive {
			return invalid("[table ttl] must be bigger than or equal search index ttl, but table ttl is %d and search index ttl is [%s:%d]", ttl, x.Name, x.TimeToLive)
		}
	}
	return nil
}

// building counts the search indexes of an instance whose phase is FULL.
func (s *Server) building(instance string) (n int) {
	now := s.clock()
	for _, d := range s.tables[instance] {
		for _, x := range d.Searches {
			if now.Before(x.Built) {
				n++
			}
		}
	}
	return n
}

func (s *Server) listSearchIndex(c call, req *otsprotocol.ListSearchIndexRequest) (proto.Message, error) {
	resp := &otsprotocol.ListSearchIndexResponse{}
	if name := req.GetTableName(); name != "" {
		d, err := s.table(c.instance, name)
		if err != nil {
			return nil, err
		}
		resp.Indices = d.searchInfos()
		return resp, nil
	}
	for _, name := range s.names(c.instance) {
		resp.Indices = append(resp.Indices, s.tables[c.instance][name].searchInfos()...)
	}
	return resp, nil
}

func (d *definition) searchInfos() (infos []*otsprotocol.IndexInfo) {
	for _, x := range d.Searches {
		infos = append(infos, &otsprotocol.IndexInfo{TableName: proto.String(d.Name), IndexName: proto.String(x.Name)})
	}
	return infos
}

func (s *Server) describeSearchIndex(c call, req *otsprotocol.DescribeSearchIndexRequest) (proto.Message, error) {
	d, err := s.mainTable(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	i, err := d.search(req.GetIndexName())
	if err != nil {
		return nil, err
	}
	x := d.Searches[i]
	resp := &otsprotocol.DescribeSearchIndexResponse{
		Schema:     &otsprotocol.IndexSchema{},
		CreateTime: proto.Int64(x.Created.Unix()),
		TimeToLive: proto.Int32(x.TimeToLive),
	}
	if err := proto.Unmarshal(x.Schema, resp.Schema); err != nil {
		return nil, err
	}
	if resp.Schema.IndexSetting == nil {
		resp.Schema.IndexSetting = &otsprotocol.IndexSetting{} // the SDK takes it for granted
	}
	if req.IncludeSyncStat == nil || req.GetIncludeSyncStat() {
		resp.SyncStat = x.syncStat(s.clock())
	}
	if other := d.brother(x); other != "" {
		resp.BrotherIndexName = proto.String(other)
	}
	for _, w := range x.Weights {
		resp.QueryFlowWeight = append(resp.QueryFlowWeight, &otsprotocol.QueryFlowWeight{IndexName: proto.String(w.Name), Weight: proto.Int32(w.Share)})
	}
	return resp, nil
}

// syncStat tells how far an index is, which is all the way once it is built.
func (x searchIndex) syncStat(now time.Time) *otsprotocol.SyncStat {
	if now.Before(x.Built) {
		return &otsprotocol.SyncStat{SyncPhase: otsprotocol.SyncPhase_FULL.Enum()}
	}
	return &otsprotocol.SyncStat{
		SyncPhase:            otsprotocol.SyncPhase_INCR.Enum(),
		CurrentSyncTimestamp: proto.Int64(now.UnixMicro()),
	}
}

// brother names the index that x is to replace or that is to replace x, "" for
// none.
func (d *definition) brother(x searchIndex) string {
	if x.Source != "" {
		return x.Source
	}
	for _, other := range d.Searches {
		if other.Source == x.Name {
			return other.Name
		}
	}
	return ""
}

func (s *Server) updateSearchIndex(c call, req *otsprotocol.UpdateSearchIndexRequest) (proto.Message, error) {
	old, err := s.mainTable(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	i, err := old.search(req.GetIndexName())
	if err != nil {
		return nil, err
	}
	if req.TimeToLive == nil && req.SwitchIndexName == nil && len(req.GetQueryFlowWeight()) == 0 {
		return nil, invalid("No parameter is specified in UpdateSearchIndex.")
	}
	d := *old
	d.Searches = slices.Clone(old.Searches)
	if req.TimeToLive != nil {
		d.Searches[i].TimeToLive = req.GetTimeToLive()
		if err := errors.Join(checkSearchTimeToLive(req.GetTimeToLive()), d.checkSearchOptions()); err != nil {
			return nil, err
		}
	}
	if len(req.GetQueryFlowWeight()) > 0 {
		if err := d.weigh(i, req.GetQueryFlowWeight()); err != nil {
			return nil, err
		}
	}
	if req.SwitchIndexName != nil {
		if err := d.switchSearch(i, req.GetSwitchIndexName()); err != nil {
			return nil, err
		}
	}
	return &otsprotocol.UpdateSearchIndexResponse{}, s.replace(&d)
}

// weigh says how queries are shared between an index and its brother.
func (d *definition) weigh(i int, weights []*otsprotocol.QueryFlowWeight) error {
	x := &d.Searches[i]
	x.Weights = nil
	sum := int32(0)
	for _, w := range weights {
		share := w.GetWeight()
		if name := w.GetIndexName(); name != x.Name && (name == "" || name != d.brother(*x)) {
			return invalid("'%s' is neither index '%s' nor one made from it.", name, x.Name)
		}
		if share < 0 || share > 100 {
			return invalid("A query flow weight must be in range: [0, 100], it is %d.", share)
		}
		sum += share
		x.Weights = append(x.Weights, weight{w.GetIndexName(), share})
	}
	if sum != 100 {
		return invalid("The sum of the query flow weights must be 100, it is %d.", sum)
	}
	return nil
}

// switchSearch exchanges the schemas of an index and its brother, so that each
// name stands for what the other did.
func (d *definition) switchSearch(i int, name string) error {
	j, err := d.search(name)
	if err != nil {
		return err
	}
	a, b := &d.Searches[i], &d.Searches[j]
	if a.Source != b.Name && b.Source != a.Name {
		return invalid("Index '%s' and '%s' cannot be switched: neither is made from the other.", a.Name, b.Name)
	}
	a.Schema, b.Schema = b.Schema, a.Schema
	a.TimeToLive, b.TimeToLive = b.TimeToLive, a.TimeToLive
	a.Built, b.Built = b.Built, a.Built
	a.Created, b.Created = b.Created, a.Created
	return nil
}

func (s *Server) deleteSearchIndex(c call, req *otsprotocol.DeleteSearchIndexRequest) (proto.Message, error) {
	old, err := s.mainTable(c.instance, req.GetTableName())
	if err != nil {
		return nil, err
	}
	i, err := old.search(req.GetIndexName())
	if err != nil {
		return nil, err
	}
	d := *old
	d.Searches = slices.Delete(slices.Clone(old.Searches), i, i+1)
	for i := range d.Searches {
		x := &d.Searches[i]
		if x.Source == req.GetIndexName() {
			x.Source = ""
		}
		if slices.ContainsFunc(x.Weights, func(w weight) bool { return w.Name == req.GetIndexName() }) {
			x.Weights = nil
		}
	}
	return &otsprotocol.DeleteSearchIndexResponse{}, s.replace(&d)
}
