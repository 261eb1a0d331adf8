package fido2

import (
	"encoding/hex"
	"strings"
)

// models names the security keys that are met most often, by their AAGUID, as the
// FIDO Alliance's metadata has them.
var models = map[string]string{
	"12755c32-8ad1-46eb-881c-e0b38d848b09": "Feitian ePass FIDO",
	"833b721a-ff5f-4d00-bb2e-bdda3ec01e29": "Feitian ePass FIDO2",
	"ee041bce-25e5-4cdb-8f86-897fd6418464": "Feitian ePass FIDO2-NFC",
	"77010bd7-212a-4fc9-b236-d2ca5e9d4084": "Feitian BioPass FIDO2",
	"b6ede29c-3772-412c-8a78-539c1f4c62d2": "Feitian BioPass FIDO2 Plus",
	"42b4fb4a-2866-43b2-9bf7-6c6669c2e5d3": "Google Titan Security Key v2",
	"2cd2f727-f6ca-44da-8f48-5c2e5da000a2": "Nitrokey 3 AM",
	"ec99db19-cd1f-4c06-a2a9-940f17a6a30b": "Nitrokey 3 xN",
	"9a03e537-4cbe-4a01-b2e2-242e0dd9a59b": "Nitrokey Passkey",
	"998f358b-2dd2-4cbe-a43a-e8107438dfb3": "OnlyKey",
	"8876631b-d4a0-427f-5773-0ec71c9e0279": "Solo",
	"8976631b-d4a0-427f-5773-0ec71c9e0279": "Solo Tap",
	"9876631b-d4a0-427f-5773-0ec71c9e0279": "Somu",
	"ab32f0c6-2239-afbb-c470-d2ef4e254db7": "Token2 FIDO2 Security Key",
	"eabb46cc-e241-80bf-ae9e-96fa6d2975cf": "Token2 PIN Plus Security Key",
	"f8a011f3-8c0a-4d15-8006-17111f9edc7d": "Security Key by Yubico",
	"b92c3f9a-c014-4056-887f-140a2501163b": "Security Key by Yubico",
	"149a2021-8ef6-4133-96b8-81f8d5b7f1f5": "Security Key NFC by Yubico",
	"6d44ba9b-f6ec-2e49-b930-0c8fe920cb73": "Security Key NFC by Yubico",
	"a4e9fc6d-4cbe-4758-b8ba-37598bb5bbaa": "Security Key NFC by Yubico",
	"b7d3f68e-88a6-471e-9ecf-2df26d041ede": "Security Key NFC by Yubico",
	"e77e3c64-05e3-428b-8824-0cbeb04b829d": "Security Key NFC by Yubico",
	"cb69481e-8ff7-4039-93ec-0a2729a154a8": "YubiKey 5",
	"ee882879-721c-4913-9775-3dfcce97072a": "YubiKey 5",
	"19083c3d-8383-4b18-bc03-8f1c9ab2fd1b": "YubiKey 5",
	"ff4dac45-ede8-4ec2-aced-cf66103f4335": "YubiKey 5",
	"fa2b99dc-9e39-4257-8f92-4a30d23c4118": "YubiKey 5 NFC",
	"2fc0579f-8113-47ea-b116-bb5a8db9202a": "YubiKey 5 NFC",
	"d7781e5d-e353-46aa-afe2-3ca49f13332a": "YubiKey 5 NFC",
	"a25342c0-3cdc-4414-8e46-f4807fca511c": "YubiKey 5 NFC",
	"c5ef55ff-ad9a-4b9f-b580-adebafe026d0": "YubiKey 5 with Lightning",
	"a02167b9-ae71-4ac7-9a07-06432ebb6f1c": "YubiKey 5 with Lightning",
	"73bb0cd4-e502-49b8-9c6f-b59445bf720b": "YubiKey 5 FIPS",
	"57f7de54-c807-4eab-b1c6-1c9be7984e92": "YubiKey 5 FIPS",
	"c1f9a0bc-1dd2-404a-b27f-8e29047a43fd": "YubiKey 5 FIPS NFC",
	"fcc0118f-cd45-435b-8da1-9782b2da0715": "YubiKey 5 FIPS NFC",
	"d8522d9f-575b-4866-88a9-ba99fa02f35b": "YubiKey Bio",
	"dd86a2da-86a0-4cbe-b462-4bd31f57bc6f": "YubiKey Bio",
	"90636e1f-ef82-43bf-bdcf-5255f139d12f": "YubiKey Bio Multi-protocol",
}

// Model names the model of a security key, "" for one that is not well known.
func Model(aaguid []byte) string {
	if len(aaguid) != aaguidSize {
		return ""
	}
	h := hex.EncodeToString(aaguid)
	return models[strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-")]
}
