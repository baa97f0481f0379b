package osstest

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"net/http"
)

// fault is a refusal as OSS words it.
type fault struct {
	Status  int
	Code    string
	Message string
	EC      string   // OSS's finer code, where it is documented
	Detail  []detail // elements of the reply beside the common ones
	Header  map[string]string
}

type detail struct{ Name, Value string }

func (f *fault) Error() string { return fmt.Sprintf("%d %s: %s", f.Status, f.Code, f.Message) }

// with returns f with one more element in the reply.
func (f fault) with(name, value string) *fault {
	f.Detail = append(f.Detail[:len(f.Detail):len(f.Detail)], detail{name, value})
	return &f
}

// Refusals that need no more to be said.
var (
	errAnonymous       = &fault{Status: 403, Code: "AccessDenied", Message: "Anonymous user has no right to access this bucket."}
	errForbidden       = &fault{Status: 403, Code: "AccessDenied", Message: "You have no right to access this object because of bucket acl."}
	errExpiredRequest  = &fault{Status: 403, Code: "AccessDenied", Message: "Request has expired."}
	errNoDate          = &fault{Status: 403, Code: "AccessDenied", Message: "OSS authentication requires a valid Date."}
	errBadKeyID        = &fault{Status: 403, Code: "InvalidAccessKeyId", Message: "The OSS Access Key Id you provided does not exist in our records."}
	errBadToken        = &fault{Status: 403, Code: "InvalidSecurityToken", Message: "The security token you provided is invalid.", EC: "0002-00000006"}
	errTokenExpired    = &fault{Status: 403, Code: "SecurityTokenExpired", Message: "The security token you provided has expired.", EC: "0002-00000007"}
	errSignature       = &fault{Status: 403, Code: "SignatureDoesNotMatch", Message: "The request signature we calculated does not match the signature you provided. Check your key and signing method.", EC: "0002-00000040"}
	errSkewed          = &fault{Status: 403, Code: "RequestTimeTooSkewed", Message: "The difference between the request time and the current time is too large.", EC: "0002-00000504"}
	errSecondLevel     = &fault{Status: 403, Code: "SecondLevelDomainForbidden", Message: "The bucket you are attempting to access must be addressed using OSS third level domain."}
	errHost            = &fault{Status: 403, Code: "NonStandardHostForbidden", Message: "Your host is invalid. Please use Open Storage Service standard host."}
	errNoBucket        = &fault{Status: 404, Code: "NoSuchBucket", Message: "The specified bucket does not exist.", EC: "0015-00000101"}
	errNoKey           = &fault{Status: 404, Code: "NoSuchKey", Message: "The specified key does not exist.", EC: "0026-00000001"}
	errNoVersion       = &fault{Status: 404, Code: "NoSuchVersion", Message: "The specified version does not exist."}
	errNoUpload        = &fault{Status: 404, Code: "NoSuchUpload", Message: "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."}
	errMethod          = &fault{Status: 405, Code: "MethodNotAllowed", Message: "The specified method is not allowed against this resource."}
	errExists          = &fault{Status: 409, Code: "FileAlreadyExists", Message: "The object you specified already exists and can not be overwritten."}
	errImmutable       = &fault{Status: 409, Code: "FileImmutable", Message: "The object you specified is immutable."}
	errBucketExists    = &fault{Status: 409, Code: "BucketAlreadyExists", Message: "The requested bucket name is not available. The bucket namespace is shared by all users of the system. Please select a different name and try again."}
	errBucketNotEmpty  = &fault{Status: 409, Code: "BucketNotEmpty", Message: "The bucket you tried to delete is not empty."}
	errFrozen          = &fault{Status: 403, Code: "InvalidObjectState", Message: "The operation is not valid for the object's state."}
	errRestoring       = &fault{Status: 409, Code: "RestoreAlreadyInProgress", Message: "The restore operation is in progress.", EC: "0026-00000011"}
	errNotArchived     = &fault{Status: 400, Code: "OperationNotSupported", Message: "The operation is not supported for this resource", EC: "0016-00000702"}
	errPrecondition    = &fault{Status: 412, Code: "PreconditionFailed", Message: "At least one of the pre-conditions you specified did not hold."}
	errNotModified     = &fault{Status: 304, Code: "NotModified", Message: "Not Modified"}
	errRange           = &fault{Status: 416, Code: "InvalidRange", Message: "The requested range cannot be satisfied"}
	errXML             = &fault{Status: 400, Code: "MalformedXML", Message: "The XML you provided was not well-formed or did not validate against our published schema."}
	errMD5Form         = &fault{Status: 400, Code: "InvalidDigest", Message: "The Content-MD5 you specified was invalid."}
	errMD5             = &fault{Status: 400, Code: "InvalidDigest", Message: "The Content-MD5 you specified did not match the body."}
	errBody            = &fault{Status: 400, Code: "IncompleteBody", Message: "You did not provide the number of bytes specified by the Content-Length HTTP header."}
	errLength          = &fault{Status: 411, Code: "MissingContentLength", Message: "You must provide the Content-Length HTTP header."}
	errTooLarge        = &fault{Status: 400, Code: "EntityTooLarge", Message: "Your proposed upload exceeds the maximum allowed object size."}
	errPartTooSmall    = &fault{Status: 400, Code: "EntityTooSmall", Message: "Your proposed upload is smaller than the minimum allowed size."}
	errPart            = &fault{Status: 400, Code: "InvalidPart", Message: "One or more of the specified parts could not be found or the specified entity tag might not have matched the part's entity tag."}
	errPartOrder       = &fault{Status: 400, Code: "InvalidPartOrder", Message: "The list of parts was not in ascending order. Parts list must be specified in order by part number."}
	errBucketName      = &fault{Status: 400, Code: "InvalidBucketName", Message: "The specified bucket is not valid."}
	errKeyLength       = &fault{Status: 400, Code: "InvalidObjectName", Message: "The Length of Object name must be less than 1024."}
	errKeyName         = &fault{Status: 400, Code: "InvalidObjectName", Message: "The specified object is not valid."}
	errURI             = &fault{Status: 400, Code: "InvalidURI", Message: "The URI you specified could not be parsed."}
	errEncryption      = &fault{Status: 400, Code: "InvalidEncryptionAlgorithmError", Message: "The Encryption request you specified is not valid. Supported value: AES256/KMS."}
	errNoWorm          = &fault{Status: 404, Code: "NoSuchWORMConfiguration", Message: "The WORM configuration does not exist."}
	errWormLocked      = &fault{Status: 403, Code: "WORMConfigurationLocked", Message: "The WORM Configuration is locked."}
	errWorm            = &fault{Status: 400, Code: "InvalidWORMConfiguration", Message: "The WORM Configuration is invalid."}
	errWormVersioning  = &fault{Status: 400, Code: "InvalidWORMConfiguration", Message: "The versioning of the bucket does not allow a WORM configuration."}
	errVersioningWorm  = &fault{Status: 409, Code: "InvalidBucketState", Message: "The request is not valid with the current state of the bucket: it has a WORM configuration."}
	errInternal        = &fault{Status: 500, Code: "InternalError", Message: "We encountered an internal error. Please try again."}
	errSigningRegion   = &fault{Status: 400, Code: "InvalidArgument", Message: "Invalid signing region in Authorization header.", EC: "0002-00000226"}
	errSigningProduct  = &fault{Status: 400, Code: "InvalidArgument", Message: "Invalid signing product in Authorization header.", EC: "0002-00000227"}
	errSigningDate     = &fault{Status: 400, Code: "InvalidArgument", Message: "Invalid signing date in Authorization header.", EC: "0002-00000212"}
	errSigningTerminal = &fault{Status: 400, Code: "InvalidArgument", Message: "Invalid signing terminator in Authorization header.", EC: "0002-00000213"}
	errAuthorization   = &fault{Status: 400, Code: "InvalidArgument", Message: "Authorization header is invalid.", EC: "0002-00000202"}
)

// argument refuses a value of a header or parameter.
func argument(name, value, message string) *fault {
	return (&fault{Status: 400, Code: "InvalidArgument", Message: message}).with("ArgumentName", name).with("ArgumentValue", value)
}

// unsupported refuses what OSS may know and this server does not.
func unsupported(what string) *fault {
	return (&fault{Status: 501, Code: "NotImplemented", Message: "A header you provided implies functionality that is not implemented."}).with("Header", what)
}

// fail answers with f: as XML, and for a HEAD in the header that OSS puts it in.
func (c *call) fail(f *fault) {
	for name, value := range f.Header {
		c.w.Header().Set(name, value)
	}
	if f.EC != "" {
		c.w.Header().Set("X-Oss-Ec", f.EC)
	}
	if f.Status == http.StatusNotModified {
		c.w.WriteHeader(f.Status)
		return
	}
	body := c.describe(f)
	c.w.Header().Set("Content-Type", "application/xml")
	if c.r.Method == http.MethodHead {
		c.w.Header().Set("X-Oss-Err", base64.StdEncoding.EncodeToString(body))
		c.w.WriteHeader(f.Status)
		return
	}
	c.w.WriteHeader(f.Status)
	c.w.Write(body)
}

func (c *call) describe(f *fault) []byte {
	list := []detail{{"Code", f.Code}, {"Message", f.Message}, {"RequestId", c.id}, {"HostId", c.r.Host}}
	if c.bucket != "" {
		list = append(list, detail{"BucketName", c.bucket})
	}
	if c.key != "" {
		list = append(list, detail{"Key", c.key})
	}
	list = append(list, f.Detail...)
	if f.EC != "" {
		list = append(list, detail{"EC", f.EC})
	}
	type element struct {
		XMLName xml.Name
		Value   string `xml:",chardata"`
	}
	reply := struct {
		XMLName  xml.Name `xml:"Error"`
		Elements []element
	}{}
	for _, d := range list {
		reply.Elements = append(reply.Elements, element{xml.Name{Local: d.Name}, d.Value})
	}
	return encodeXML(reply)
}

func encodeXML(v any) []byte {
	body, err := xml.Marshal(v)
	if err != nil {
		panic(err) // our own types always encode
	}
	return append([]byte(xml.Header), body...)
}
