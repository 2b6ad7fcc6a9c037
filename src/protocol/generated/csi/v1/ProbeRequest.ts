// Original file: src/protocol/csi.proto


export interface ProbeRequest {
}

export interface ProbeRequest__Output {
}
