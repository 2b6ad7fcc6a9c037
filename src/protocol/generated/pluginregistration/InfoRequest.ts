// Original file: src/protocol/registration.proto


export interface InfoRequest {
}

export interface InfoRequest__Output {
}
