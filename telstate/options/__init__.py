"""What can be asked of Daily, as checked values: dial-out, transfer, DTMF, rooms, SIP URIs. Pure: nothing here sends."""
