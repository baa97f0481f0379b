package local

import (
	"github.com/aliyun/aliyun-tablestore-go-sdk/tablestore/otsprotocol"
)

// encryption says with which key the service encrypts a table. Here it is told
// and nothing more.
type encryption struct {
	KeyType otsprotocol.SSEKeyType `json:"key_type"`
	KeyID   []byte                 `json:"key_id,omitempty"`   // of the customer's own key
	RoleARN []byte                 `json:"role_arn,omitempty"` // whom the service is to be, to use it
}

// newEncryption returns what a CreateTable request asks for, nil for none.
func newEncryption(spec *otsprotocol.SSESpecification) (*encryption, error) {
	if spec == nil {
		return nil, nil
	}
	e := &encryption{KeyType: spec.GetKeyType(), KeyID: spec.GetKeyId(), RoleARN: spec.GetRoleArn()}
	owned := len(e.KeyID) > 0 || len(e.RoleARN) > 0
	switch {
	case !spec.GetEnable() && (spec.KeyType != nil || owned):
		return nil, invalid("Key type, key id and role arn cannot be set when encryption is not enabled.")
	case !spec.GetEnable():
		return nil, nil
	case spec.KeyType == nil:
		return nil, invalid("Key type is required when encryption is enabled.")
	}
	switch e.KeyType {
	case otsprotocol.SSEKeyType_SSE_KMS_SERVICE:
		if owned {
			return nil, invalid("Key id and role arn cannot be set when key type is %s.", e.KeyType)
		}
	case otsprotocol.SSEKeyType_SSE_BYOK:
		if len(e.KeyID) == 0 || len(e.RoleARN) == 0 {
			return nil, invalid("Key id and role arn are required when key type is %s.", e.KeyType)
		}
	default:
		return nil, invalid("Invalid key type: %d.", e.KeyType)
	}
	return e, nil
}

// proto describes the encryption of a table; without any there is nothing to say.
func (e *encryption) proto() *otsprotocol.SSEDetails {
	if e == nil {
		return nil
	}
	enable := true
	return &otsprotocol.SSEDetails{Enable: &enable, KeyType: e.KeyType.Enum(), KeyId: e.KeyID, RoleArn: e.RoleARN}
}
